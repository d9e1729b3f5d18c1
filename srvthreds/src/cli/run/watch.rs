//! Noticing that files have changed.

use std::{
    path::{Path, PathBuf, absolute},
    time::Duration,
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::ModifyKind};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

/// Tells when something may have changed in files or below directories.
pub(super) struct Changes {
    watcher: RecommendedWatcher,
    hints: mpsc::Receiver<()>,
    watched: Watched,
}

/// What is watched, as absolute paths.
#[derive(Clone, Debug, Default)]
struct Watched {
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    /// Not this, even if it lies in one of the directories.
    except: Vec<PathBuf>,
}

impl Changes {
    /// A change is told when nothing more has changed for so long: editors write in several steps.
    const QUIET: Duration = Duration::from_millis(100);
    /// But after so long at the latest.
    const LONGEST: Duration = Duration::from_secs(2);

    /// Starts to watch.
    pub(super) fn watch(
        files: &[PathBuf],
        directories: &[PathBuf],
        except: &[PathBuf],
    ) -> notify::Result<Self> {
        let all = |paths: &[PathBuf]| paths.iter().map(absolute).collect::<Result<Vec<_>, _>>();
        let watched =
            Watched { files: all(files)?, directories: all(directories)?, except: all(except)? };
        // One hint stands for all changes since it was sent.
        let (sender, hints) = mpsc::channel(1);
        let concerned = watched.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error, as that events were lost, may hide a change.
            if event.map_or(true, |event| concerned.concerns(&event)) {
                let _ = sender.try_send(());
            }
        })?;
        let mut changes = Self { watcher, hints, watched };
        changes.follow()?;
        Ok(changes)
    }

    /// Watches all directories that are there. A file is watched by its directory, since an editor
    /// puts another file in its place; a directory by the one above, since it may be replaced too.
    fn follow(&mut self) -> notify::Result<()> {
        let Watched { files, directories, .. } = &self.watched;
        let above = files.iter().chain(directories).filter_map(|path| path.parent());
        let shallow = above.map(|path| (path, RecursiveMode::NonRecursive));
        // The deep ones last: of two watches of one directory the later one holds.
        let deep = directories.iter().map(|path| (&**path, RecursiveMode::Recursive));
        for (path, mode) in shallow.chain(deep) {
            if path.is_dir() {
                self.watcher.watch(path, mode)?;
            }
        }
        Ok(())
    }

    /// Waits until something may have changed, and then for a pause.
    pub(super) async fn next(&mut self) {
        if self.hints.recv().await.is_none() {
            return std::future::pending().await;
        }
        let longest = Instant::now() + Self::LONGEST;
        loop {
            let quiet = longest.min(Instant::now() + Self::QUIET);
            match timeout_at(quiet, self.hints.recv()).await {
                Ok(Some(())) if Instant::now() < longest => {}
                _ => break,
            }
        }
        // What has come into being is to be watched too.
        if let Err(error) = self.follow() {
            tracing::warn!(%error, "cannot watch all files");
        }
    }
}

impl Watched {
    /// Whether an event may be about what is watched. That a file is read is no change.
    fn concerns(&self, event: &Event) -> bool {
        // A file is written where it is; anything else may be a directory that is put in place.
        let of_json = match event.kind {
            EventKind::Access(_) => return false,
            EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => true,
            _ => false,
        };
        event.need_rescan() || event.paths.iter().any(|path| self.holds(path, of_json))
    }

    fn holds(&self, path: &Path, of_json: bool) -> bool {
        if self.except.iter().any(|except| path.starts_with(except)) {
            return false;
        }
        let json = path.extension().is_some_and(|extension| extension == "json");
        self.files.iter().any(|file| file == path)
            || self.directories.iter().any(|directory| path.starts_with(directory))
                && (json || !of_json)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use notify::event::{AccessKind, CreateKind, DataChange, RenameMode};

    use super::*;

    #[test]
    fn only_what_is_watched_counts() {
        let watched = Watched {
            files: vec!["/etc/sessions.txt".into()],
            directories: vec!["/p".into()],
            except: vec!["/p/data".into()],
        };
        let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let rename = EventKind::Modify(ModifyKind::Name(RenameMode::Any));
        let create = EventKind::Create(CreateKind::Any);
        let access = EventKind::Access(AccessKind::Any);
        for (kind, path, concerns) in [
            (data, "/p/sub/a.json", true),
            (data, "/p/a.txt", false),
            (data, "/etc/sessions.txt", true),
            (data, "/etc/other.json", false),
            (rename, "/p/..data", true),
            (create, "/p", true),
            (create, "/p/sub", true),
            (access, "/p/a.json", false),
            (create, "/p/data/a.json", false),
            (create, "/pp/a.json", false),
        ] {
            let event = Event::new(kind).add_path(path.into());
            assert_eq!(watched.concerns(&event), concerns, "{kind:?} {path}");
        }
    }

    #[tokio::test]
    async fn files_are_watched_even_when_they_are_replaced() {
        let root = tempfile::tempdir().unwrap();
        let patterns = root.path().join("patterns");
        let file = root.path().join("sessions.json");
        fs::create_dir(&patterns).unwrap();
        fs::write(&file, "1").unwrap();
        let mut changes =
            Changes::watch(&[file.clone()], &[patterns.clone()], &[]).expect("watches");
        let replace = |path: &Path| {
            let other = root.path().join("other");
            fs::write(&other, "2").unwrap();
            fs::rename(other, path).unwrap();
        };
        replace(&file);
        changes.next().await;
        replace(&file);
        changes.next().await;
        fs::write(patterns.join("a.json"), "1").unwrap();
        changes.next().await;
        fs::create_dir(patterns.join("sub")).unwrap();
        changes.next().await;
        fs::write(patterns.join("sub/b.json"), "1").unwrap();
        changes.next().await;
        fs::remove_file(patterns.join("a.json")).unwrap();
        changes.next().await;
        // The directory as a whole, as a deployment does it.
        fs::rename(&patterns, root.path().join("old")).unwrap();
        changes.next().await;
        fs::create_dir(&patterns).unwrap();
        changes.next().await;
        fs::write(patterns.join("a.json"), "1").unwrap();
        changes.next().await;
    }
}
