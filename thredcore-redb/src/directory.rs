//! The directory: its file, and who has it open.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use redb::{Builder, Database, DatabaseError, StorageBackend, backends::FileBackend};

use crate::{
    access,
    config::RedbConfig,
    error::RedbError,
    signature::Signature,
    watch::{Watch, Watched},
};

/// Where threds are kept.
pub(crate) struct Directory {
    path: PathBuf,
    /// What this process has left in it.
    signature: OnceLock<Signature>,
    pub(crate) config: RedbConfig,
    pub(crate) watch: Arc<Watch>,
}

/// What the file is called.
pub(crate) const FILE: &str = "threds.redb";
const PID: &str = "pid";
const PROBE: &str = "probe";

impl Directory {
    pub(crate) fn new(path: &Path, config: RedbConfig) -> Result<Self, RedbError> {
        let signature = OnceLock::new();
        let directory = Self { path: path.to_owned(), signature, config, watch: Arc::default() };
        if directory.config.backend.is_some() {
            return Ok(directory);
        }
        if path.exists() && !path.is_dir() {
            return Err(RedbError::NotADirectory { path: path.to_owned() });
        }
        if directory.config.create {
            access::make_directory(path).map_err(directory.failed("create", ""))?;
        }
        Ok(directory)
    }

    /// Opens the database; after a crash that takes a while, and the log tells how long.
    pub(crate) fn open(&self) -> Result<Database, RedbError> {
        let inner: Box<dyn StorageBackend> = match &self.config.backend {
            Some(make) => make().map_err(self.failed("open", ""))?,
            None => Box::new(FileBackend::new(self.open_file()?)?),
        };
        let begin = Instant::now();
        let mut builder = Builder::new();
        builder.set_cache_size(self.config.cache_bytes);
        let path = self.path.display().to_string();
        builder.set_repair_callback(move |repair| {
            let percent = (repair.progress() * 100.0) as u32;
            tracing::info!(path, percent, "not closed in order: it is being repaired");
        });
        let backend = Watched { inner, watch: self.watch.clone() };
        let database = builder.create_with_backend(backend).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => self.in_use(),
            other => other.into(),
        })?;
        let took = begin.elapsed();
        if took > Duration::from_millis(100) {
            tracing::info!(path = %self.path.display(), ?took, "opened");
        }
        Ok(database)
    }

    fn open_file(&self) -> Result<File, RedbError> {
        let failed = self.failed("open", FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(self.config.create).truncate(false);
        // Of others until it is known to be ours.
        match access::open_as_it_is(&self.file(), &mut options) {
            Err(error) if !self.config.create && error.kind() == io::ErrorKind::NotFound => {
                Err(self.nothing())
            }
            // Whoever began to make it has not come far.
            Ok(file) if !self.config.create && file.metadata().map_err(&failed)?.len() == 0 => {
                Err(self.nothing())
            }
            opened => opened.map_err(failed),
        }
    }

    /// Where the database is.
    pub(crate) fn file(&self) -> PathBuf {
        self.path.join(FILE)
    }

    /// That nothing is stored here.
    pub(crate) fn nothing(&self) -> RedbError {
        RedbError::Nothing { dir: self.path.clone() }
    }

    fn in_use(&self) -> RedbError {
        let pid = Signature::read(&self.path.join(PID)).and_then(|it| it.pid_if_alive());
        RedbError::InUse { dir: self.path.clone(), pid }
    }

    /// Leaves this process's number, and makes sure that the file's name is durable.
    pub(crate) fn sign(&self) -> Result<(), RedbError> {
        if self.config.backend.is_some() {
            return Ok(());
        }
        let signature = Signature::own();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        access::open(&self.path.join(PID), &mut options)
            .and_then(|mut file| file.write_all(signature.to_string().as_bytes()))
            .map_err(self.failed("write", PID))?;
        _ = self.signature.set(signature);
        #[cfg(unix)]
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(self.failed("sync", ""))?;
        Ok(())
    }

    /// Closes the directory and its file to others, now that they are known to be ours.
    pub(crate) fn close_to_others(&self) {
        if self.config.backend.is_none() {
            access::close_to_others(&self.path, &self.file());
        }
    }

    /// Whether there seems to be room again.
    pub(crate) fn has_room(&self) -> bool {
        if self.config.backend.is_some() {
            return true;
        }
        let path = self.path.join(PROBE);
        let write = || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true);
            let mut file = access::open(&path, &mut options)?;
            for _ in 0..16 {
                file.write_all(&[1; 256 << 10])?;
            }
            file.sync_all()
        };
        let written = write().is_ok();
        _ = fs::remove_file(&path);
        written
    }

    fn failed(
        &self,
        operation: &'static str,
        name: &str,
    ) -> impl Fn(io::Error) -> RedbError + use<> {
        let path = self.path.join(name);
        move |source| RedbError::Io { operation, path: path.clone(), source }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    /// Takes the signature away, unless it is another's by now.
    fn drop(&mut self) {
        let path = self.path.join(PID);
        if let Some(own) = self.signature.get()
            && Signature::read(&path).as_ref() == Some(own)
        {
            _ = fs::remove_file(path);
        }
    }
}
