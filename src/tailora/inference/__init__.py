"""What a finished run says of data it has not seen."""
