//! Threds, archive, patterns and records of thredcore in MongoDB.
