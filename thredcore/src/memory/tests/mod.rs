mod queues;
mod storage;
