//! Signals that ask the program to end.

use std::{future::Future, io, time::Duration};

use tokio::time::{Instant, sleep_until};

/// SIGINT and SIGTERM; ctrl-c where there are no signals.
pub(crate) struct Interrupts {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Interrupts {
    /// From now on the signals no longer end the program by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        Ok(Self { interrupt: signal(interrupt)?, terminate: signal(terminate)? })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Interrupts {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The end of a program that was asked to end, or has done its work. Every step has its time; a
/// signal makes it end at once.
pub(crate) struct Ending {
    interrupts: Interrupts,
    at_once: bool,
}

impl Ending {
    /// What a server, or a reader, that keeps up needs to take the last of it.
    const AT_ONCE: Duration = Duration::from_millis(100);

    pub(crate) fn new(interrupts: Interrupts) -> Self {
        Self { interrupts, at_once: false }
    }

    /// Whether a signal has come.
    pub(crate) fn at_once(&self) -> bool {
        self.at_once
    }

    /// Awaits a step until a time, or until a signal; `None` if it was not done by then. After a
    /// signal each further step has a moment.
    pub(crate) async fn within<T>(
        &mut self,
        end: Instant,
        step: impl Future<Output = T>,
    ) -> Option<T> {
        let end = if self.at_once { end.min(Instant::now() + Self::AT_ONCE) } else { end };
        tokio::select! {
            biased;
            done = step => Some(done),
            () = self.interrupts.next(), if !self.at_once => {
                self.at_once = true;
                None
            }
            () = sleep_until(end) => None,
        }
    }

    /// Awaits a step however long it takes, unless a signal comes.
    pub(crate) async fn unless_at_once<T>(&mut self, step: impl Future<Output = T>) -> Option<T> {
        // Far enough for anybody, and within what clocks can tell.
        const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        self.within(Instant::now() + LONG, step).await
    }
}

/// The last resort: ends the process when it has not ended by itself in time after a signal, or soon
/// after a second one, whatever it hangs on.
pub(crate) fn end_in_time() -> io::Result<impl Future<Output = ()> + Send> {
    const PROMISED: Duration = Duration::from_millis(9_800);
    const SOON: Duration = Duration::from_millis(1_500);
    let mut interrupts = Interrupts::listen()?;
    Ok(async move {
        for after in [PROMISED, SOON] {
            interrupts.next().await;
            std::thread::spawn(move || {
                std::thread::sleep(after);
                // Nor does it hang on a standard error that nobody reads.
                std::thread::spawn(|| eprintln!("error: ended in the midst: it took too long"));
                std::thread::sleep(Duration::from_millis(50));
                std::process::exit(1);
            });
        }
    })
}
