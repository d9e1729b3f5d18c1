//! Threds on Redis: storage, queues, sessions and patterns of thredcore.
