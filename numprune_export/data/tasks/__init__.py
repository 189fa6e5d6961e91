"""What an encoder is good for: labelled examples, their loss, and how well they are answered."""
