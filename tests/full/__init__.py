"""The full tier: peers, security, soaks. Too long for every change; run by scripts/full."""
