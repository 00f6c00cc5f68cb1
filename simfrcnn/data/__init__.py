"""From a stored mammogram to a training sample: files, records, lists, pixels."""
