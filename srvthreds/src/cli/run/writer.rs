//! Writing to standard output, by a thread of its own: a reader that stands still stops nobody else.

use std::{
    io::{self, Write},
    thread,
};

use thredcore::port::DeliveryTag;
use tokio::sync::{mpsc, oneshot};

/// Lines, and the deliveries that are done once they are written.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) lines: Vec<u8>,
    pub(super) tags: Vec<DeliveryTag>,
}

/// The end of the thread that writes.
pub(super) struct Writer(oneshot::Receiver<io::Result<()>>);

impl Writer {
    /// Chunks that wait for standard output.
    const AHEAD: usize = 256;

    /// Starts to write what is sent, until all senders are gone. The tags of what is written and
    /// flushed come back.
    pub(super) fn start() -> (Self, mpsc::Sender<Chunk>, mpsc::UnboundedReceiver<Vec<DeliveryTag>>)
    {
        let (chunks, receiver) = mpsc::channel(Self::AHEAD);
        let (written, tags) = mpsc::unbounded_channel();
        let (done, end) = oneshot::channel();
        thread::spawn(move || done.send(write(receiver, &written, io::stdout().lock())));
        (Self(end), chunks, tags)
    }

    /// Waits until all is written.
    pub(super) async fn ended(self) -> io::Result<()> {
        self.0.await.unwrap_or_else(|_| Err(io::Error::other("the writer panicked")))
    }
}

fn write(
    mut chunks: mpsc::Receiver<Chunk>,
    written: &mpsc::UnboundedSender<Vec<DeliveryTag>>,
    out: impl Write,
) -> io::Result<()> {
    // So many deliveries wait for a flush at most, however fast more of them come.
    const UNFLUSHED: usize = 4096;
    let mut out = io::BufWriter::with_capacity(1 << 16, out);
    let mut tags = Vec::new();
    loop {
        let chunk = match chunks.try_recv() {
            Ok(chunk) if tags.len() < UNFLUSHED => Some(chunk),
            next => {
                out.flush()?;
                // Nobody waits for them: the program ends.
                let _ = written.send(std::mem::take(&mut tags));
                next.ok().or_else(|| chunks.blocking_recv())
            }
        };
        let Some(chunk) = chunk else { return out.flush() };
        out.write_all(&chunk.lines)?;
        tags.extend(chunk.tags);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Takes note of what is flushed.
    #[derive(Clone, Default)]
    struct Disk {
        written: Vec<u8>,
        flushed: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Disk {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.written.extend_from_slice(buffer);
            Ok(buffer.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.flushed.lock().unwrap().append(&mut self.written);
            Ok(())
        }
    }

    #[test]
    fn a_delivery_is_done_when_its_line_is_flushed() {
        let (chunks, receiver) = mpsc::channel(8);
        let (written, mut tags) = mpsc::unbounded_channel();
        let disk = Disk::default();
        let flushed = disk.flushed.clone();
        let thread = thread::spawn(move || write(receiver, &written, disk));
        for number in 0..3 {
            let lines = format!("{number}\n").into_bytes();
            chunks.blocking_send(Chunk { lines, tags: vec![DeliveryTag(0, number)] }).unwrap();
        }
        let mut done = 0;
        while done < 3 {
            done += tags.blocking_recv().unwrap().len();
            assert!(flushed.lock().unwrap().len() >= 2 * done);
        }
        drop(chunks);
        thread.join().unwrap().unwrap();
        assert_eq!(*flushed.lock().unwrap(), b"0\n1\n2\n");
    }

    #[test]
    fn a_line_that_cannot_be_written_is_not_done() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (chunks, receiver) = mpsc::channel(8);
        let (written, mut tags) = mpsc::unbounded_channel();
        let lines = vec![b'x'; 1 << 17];
        chunks.blocking_send(Chunk { lines, tags: vec![DeliveryTag(0, 1)] }).unwrap();
        let error = write(receiver, &written, Full).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        drop(written);
        assert!(tags.blocking_recv().is_none_or(|tags| tags.is_empty()));
    }
}
