//! Users, their groups and their roles.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures::{
    StreamExt,
    future::{Either, select},
};
use mongodb::bson::{Bson, Document, RawDocumentBuf, deserialize_from_slice, doc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use thredcore::port::{AddressResolver, Directory, PortError};
use thredlib::ParticipantId;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::{connection::Mongo, documents::USERS, error::MongoError};

/// Somebody with groups and roles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct User {
    /// Who it is.
    #[serde(rename = "_id")]
    pub id: String,
    /// The groups that the user belongs to.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The roles that the user holds.
    #[serde(default)]
    pub roles: Vec<String>,
}

impl User {
    /// A user without groups and roles.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }

    /// Adds the user to a group.
    #[must_use]
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.groups.push(name.into());
        self
    }

    /// Gives the user a role.
    #[must_use]
    pub fn role(mut self, name: impl Into<String>) -> Self {
        self.roles.push(name.into());
        self
    }
}

/// What another resolver knows, with the users that MongoDB holds: in the collection `users`,
/// documents with `_id`, `groups` and `roles`, whoever wrote them. One that is not like that is skipped
/// with a warning.
///
/// It answers from memory. A change in the collection is seen through a change stream, mostly within
/// milliseconds; after a lost connection everything is read anew.
pub struct MongoDirectory {
    mongo: Mongo,
    base: Arc<dyn AddressResolver>,
    known: Arc<Known>,
    /// What both gave last.
    merged: Mutex<Option<Merged>>,
}

impl std::fmt::Debug for MongoDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MongoDirectory").field("mongo", &self.mongo).finish_non_exhaustive()
    }
}

/// The users that are known now.
#[derive(Debug)]
struct Known {
    now: Mutex<Arc<Vec<User>>>,
    /// Documents that are no users, as they were read last.
    skipped: Mutex<BTreeSet<String>>,
    /// One reader at a time, or the one that read first could write last.
    reading: tokio::sync::Mutex<()>,
    changed: tokio::sync::watch::Sender<u64>,
}

/// A directory, and what it was made of.
struct Merged {
    base: Arc<Directory>,
    users: Arc<Vec<User>>,
    directory: Arc<Directory>,
}

impl MongoDirectory {
    /// The pause before a lost change stream is opened again.
    const PAUSE: Duration = Duration::from_secs(1);

    /// Reads the users and keeps watching them. Services and sessions are those of `base`; if that
    /// has no sessions, every user is taken to have one on the default node. Needs a runtime.
    ///
    /// # Errors
    /// When the users cannot be read.
    pub async fn open(mongo: &Mongo, base: Arc<dyn AddressResolver>) -> Result<Self, MongoError> {
        let changed = tokio::sync::watch::Sender::new(0);
        let known = Arc::new(Known {
            now: Mutex::default(),
            skipped: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            changed,
        });
        known.read(mongo).await.map_err(|error| mongo.prepare_error(error))?;
        tokio::spawn(watch(mongo.clone(), Arc::downgrade(&known)));
        Ok(Self { mongo: mongo.clone(), base, known, merged: Mutex::default() })
    }

    /// Adds a user, or replaces what is stored about it. This directory knows it at once.
    ///
    /// # Errors
    /// It may have been stored.
    pub async fn put_user(&self, user: &User) -> Result<(), PortError> {
        let users = self.mongo.collection::<User>(USERS);
        let put = users.replace_one(doc! { "_id": { "$eq": &user.id } }, user).upsert(true);
        self.mongo.call("store a user", put).await?;
        self.known.read(&self.mongo).await
    }

    /// Removes a user; one who is not there is no error. This directory knows it at once.
    ///
    /// # Errors
    /// It may have been removed.
    pub async fn remove_user(&self, id: &str) -> Result<(), PortError> {
        let users = self.mongo.collection::<User>(USERS);
        let remove = users.delete_one(doc! { "_id": { "$eq": id } });
        self.mongo.call("remove a user", remove).await?;
        self.known.read(&self.mongo).await
    }

    /// Waits until something holds, and gives the directory for which it does. It looks when the
    /// users change, not when the other resolver has news.
    ///
    /// # Errors
    /// When the other resolver does not answer.
    pub async fn until(
        &self,
        mut holds: impl FnMut(&Directory) -> bool,
    ) -> Result<Arc<Directory>, PortError> {
        let mut changed = self.known.changed.subscribe();
        loop {
            let now = self.directory().await?;
            if holds(&now) {
                return Ok(now);
            }
            // It ends with an error only if the sender is gone, and that is held here.
            let _ = changed.changed().await;
        }
    }
}

#[async_trait]
impl AddressResolver for MongoDirectory {
    async fn directory(&self) -> Result<Arc<Directory>, PortError> {
        let (base, users) = (self.base.directory().await?, self.known.now());
        let mut merged = self.merged.lock();
        if let Some(merged) = &*merged
            && Arc::ptr_eq(&merged.base, &base)
            && Arc::ptr_eq(&merged.users, &users)
        {
            return Ok(merged.directory.clone());
        }
        let directory = Arc::new(with_users(&base, &users));
        *merged = Some(Merged { base, users, directory: directory.clone() });
        Ok(directory)
    }
}

fn with_users(base: &Directory, users: &[User]) -> Directory {
    let mut directory = base.clone();
    let all_online = base.everyone().is_empty();
    for user in users {
        let id = ParticipantId::from(user.id.as_str());
        for group in &user.groups {
            directory.add_group(&**group, [id.clone()]);
        }
        for role in &user.roles {
            directory.add_role(&**role, [id.clone()]);
        }
        if all_online {
            directory.add_session(id, Directory::DEFAULT_NODE);
        }
    }
    directory
}

impl Known {
    fn now(&self) -> Arc<Vec<User>> {
        self.now.lock().clone()
    }

    /// Says which documents are skipped, once.
    fn warn_of(&self, mongo: &Mongo, skipped: BTreeSet<String>) {
        let mut known = self.skipped.lock();
        for document in skipped.difference(&known) {
            let collection = mongo.name(USERS);
            warn!(collection, document, "a document that is no user is skipped");
        }
        *known = skipped;
    }

    /// Reads all users; a document that is none is skipped: whoever wrote it must not keep the
    /// others from being known.
    async fn read(&self, mongo: &Mongo) -> Result<(), PortError> {
        let _one_at_a_time = self.reading.lock().await;
        let documents = mongo.collection::<RawDocumentBuf>(USERS);
        let find = documents.find(doc! {}).sort(doc! { "_id": 1 }).batch_size(1_000);
        let documents = mongo.all("read users", find).await?;
        let (mut users, mut skipped) = (Vec::with_capacity(documents.len()), BTreeSet::new());
        for document in documents {
            match deserialize_from_slice::<User>(document.as_bytes()) {
                Ok(user) => users.push(user),
                Err(error) => _ = skipped.insert(format!("{}: {error}", id_of(&document))),
            }
        }
        self.warn_of(mongo, skipped);
        let users = Arc::new(users);
        *self.now.lock() = users;
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }
}

/// What a document is called.
fn id_of(document: &RawDocumentBuf) -> String {
    match document.get("_id") {
        Ok(Some(id)) => Bson::try_from(id).map_or("?".to_owned(), |id| id.to_string()),
        _ => "?".to_owned(),
    }
}

/// Ends when the directory is gone.
async fn watch(mongo: Mongo, known: Weak<Known>) {
    while let Some(strong) = known.upgrade() {
        let mut gone = strong.changed.subscribe();
        drop(strong);
        let gone = async { while gone.changed().await.is_ok() {} };
        match select(pin!(gone), pin!(follow(&mongo, &known))).await {
            Either::Left(_) => return,
            Either::Right((Ok(()), _)) => {}
            Either::Right((Err(error), _)) => debug!(%error, "the users are watched anew"),
        }
        sleep(MongoDirectory::PAUSE).await;
    }
}

/// Reads the users at each change, until the stream of changes ends.
async fn follow(mongo: &Mongo, known: &Weak<Known>) -> mongodb::error::Result<()> {
    // First the stream, then the users: no change falls in between.
    let mut changes = mongo.collection::<Document>(USERS).watch().await?;
    loop {
        let Some(known) = known.upgrade() else { return Ok(()) };
        if let Err(error) = known.read(mongo).await {
            warn!(%error, "users cannot be read; the former ones hold");
            return Ok(());
        }
        drop(known);
        if changes.next().await.transpose()?.is_none() {
            return Ok(());
        }
    }
}
