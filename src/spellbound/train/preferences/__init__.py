"""Learning from preferences, pairs (DPO) or thumbs (KTO), with TRL's losses on our model and adapters."""
