"""Generated protobuf modules; `make proto` writes them from proto/, nobody edits them."""
