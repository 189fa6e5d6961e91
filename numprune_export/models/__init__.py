"""What a Transformer looks like to a pruner, and how its blocks are run one by one."""
