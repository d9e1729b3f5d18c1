//! Durable threds without a server: storage and queues of thredcore in one directory.
