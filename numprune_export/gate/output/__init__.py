"""Output formats for the gate's verdict: text, JSON, JUnit XML, GitHub annotations."""
