"""Results as DICOM objects for the PACS. One module for each kind of object; `objects` has what all share."""
