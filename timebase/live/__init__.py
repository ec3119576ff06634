"""What is followed live: which feeds supply it, and how history meets it."""
