"""Speed: tailora against a bare loop or a peer."""
