"""Time features, masks, metrics and statistics: arithmetic without state."""
