//! The code that can read one kind of source, behind one trait.
