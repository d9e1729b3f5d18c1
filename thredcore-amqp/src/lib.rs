//! Events and messages of thredcore over RabbitMQ.
