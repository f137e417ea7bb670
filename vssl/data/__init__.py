"""From a video file to a batch: sources, decoding, augmentation, the clip data set and its loader."""
