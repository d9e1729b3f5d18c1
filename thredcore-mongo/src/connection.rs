//! The connection that all parts share.

use std::{future::Future, io::ErrorKind::TimedOut, sync::Arc, time::SystemTime};

use futures::TryStreamExt;
use mongodb::{
    Client, ClientSession, Collection, Cursor, Database, IndexModel,
    bson::{Bson, Document, RawDocumentBuf, doc},
    error::ErrorKind,
    options::{
        Acknowledgment, ClientOptions, IndexOptions, ReadConcern, ReadPreference,
        SelectionCriteria, WriteConcern,
    },
};
use serde::de::DeserializeOwned;
use thredcore::{
    format::{FORMATS, StoreFormat},
    port::{PortError, PortErrorKind},
};
use tokio::time::timeout;

use crate::{
    config::MongoConfig,
    error::{MongoError, kind_of_code, port_error},
    format::{self, Process},
    unreadable::{Warned, decoded},
};

/// A pool of connections to a replica set, and the database in use. Cheap to clone; everything that
/// is opened on it shares it. It finds a new primary, and a server that was restarted, by itself.
#[derive(Clone, Debug)]
pub struct Mongo {
    pub(crate) database: Database,
    pub(crate) config: Arc<MongoConfig>,
    pub(crate) unreadable: Arc<Warned>,
    pub(crate) process: Arc<Process>,
    pub(crate) format: u32,
}

impl Mongo {
    /// Connects, and makes sure that what the server acknowledges is safe, and that what the database
    /// holds is of a [version](thredcore::format) that this crate reads. The process notes every 10 s
    /// that it is there and which versions it reads, so that nobody [upgrades](Self::upgrade) the
    /// database under it.
    ///
    /// # Errors
    /// When the URL is wrong, no server answers, it is not a replica set, or the database is of
    /// another version.
    pub async fn connect(config: MongoConfig) -> Result<Self, MongoError> {
        let url_error = |error| MongoError::Url(Box::new(error));
        let mut options = ClientOptions::parse(&config.url).await.map_err(url_error)?;
        let hosts: Vec<_> = options.hosts.iter().map(ToString::to_string).collect();
        let hosts = hosts.join(",");
        options.app_name.get_or_insert_with(|| "thredcore".to_owned());
        options.max_pool_size = Some(config.pool);
        options.server_selection_timeout = Some(config.selection_limit);
        options.connect_timeout.get_or_insert(config.selection_limit);
        options.write_concern = Some(durable(&config));
        options.read_concern = Some(ReadConcern::majority());
        options.selection_criteria =
            Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        let named = config.database.clone().or_else(|| options.default_database.clone());
        let client = Client::with_options(options).map_err(url_error)?;
        let database = client.database(named.as_ref().unwrap_or(&config.default_database));
        let hello = timeout(config.time_limit, database.run_command(doc! { "hello": 1 })).await;
        let hello = hello.unwrap_or_else(|_| Err(std::io::Error::from(TimedOut).into()));
        let hello = hello.map_err(|error| MongoError::Unreachable {
            hosts: hosts.clone(),
            source: Box::new(error),
        })?;
        if !hello.contains_key("setName") && hello.get_str("msg").ok() != Some("isdbgrid") {
            return Err(MongoError::NoReplicaSet { hosts });
        }
        let (config, unreadable, process) = (Arc::new(config), Arc::default(), Arc::default());
        let format = FORMATS.newest();
        let this = Self { database, config, unreadable, process, format };
        let format = format::agree(&this).await?;
        let this = Self { format, ..this };
        if this.config.create {
            format::keep_attending(&this);
        }
        Ok(this)
    }

    /// The version of the database by now, and the processes that are at work on it: those that were
    /// heard of within a minute.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn store_format(&self) -> Result<StoreFormat, PortError> {
        format::stand(self).await
    }

    /// Raises the version of the database to the newest, unless a process is at work that does not
    /// read that. Processes that have it open go on writing the version before until they are
    /// restarted, which does no harm: both are read.
    ///
    /// # Errors
    /// The server cannot be reached; it may have been done.
    pub async fn upgrade(&self) -> Result<StoreFormat, PortError> {
        format::upgrade(self).await
    }

    /// Whether the database can still be worked on: it may have been upgraded while this process was
    /// paused.
    ///
    /// # Errors
    /// It has a version that this program does not read.
    pub fn check_format(&self) -> Result<(), MongoError> {
        let database = || self.database.name().to_owned();
        let outdated = |problem| MongoError::Format { database: database(), problem };
        self.process.attendance.check().map_err(outdated)
    }

    /// The [version](thredcore::format) of the stored forms that the database has, which is the one
    /// to write.
    pub fn format(&self) -> u32 {
        self.format
    }

    /// Closes the connections of all that was opened on this; later calls fail. To be called before
    /// the runtime ends, or a task of the driver may panic as it is dropped. Takes as long as the
    /// servers take to be found, if they are away.
    pub async fn close(&self) {
        self.database.client().clone().shutdown().immediate(true).await;
    }

    /// Deletes the database in use, whoever else uses it. For tests.
    ///
    /// # Errors
    /// It may have been deleted.
    pub async fn drop_database(&self) -> Result<(), PortError> {
        self.call("drop the database", self.database.drop()).await
    }

    pub(crate) fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        self.database.collection(&self.name(name))
    }

    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.config.prefix)
    }

    /// Awaits a call of the driver, but not for ever; its error becomes one of a port.
    pub(crate) async fn call<T>(
        &self,
        operation: &'static str,
        call: impl IntoFuture<Output = mongodb::error::Result<T>>,
    ) -> Result<T, PortError> {
        let call = async { call.await.map_err(|error| port_error(operation, error)) };
        self.within(operation, call).await
    }

    /// Awaits something, but not for ever.
    pub(crate) async fn within<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, PortError>>,
    ) -> Result<T, PortError> {
        if let Err(error) = self.check_format() {
            return Err(PortError::new(operation, PortErrorKind::Closed, error));
        }
        let limit = self.config.time_limit;
        timeout(limit, call).await.unwrap_or_else(|_| {
            let cause = format!("no answer from MongoDB within {limit:?}");
            Err(PortError::new(operation, PortErrorKind::Unknown, cause))
        })
    }

    /// All that a cursor gives.
    pub(crate) async fn all<T: DeserializeOwned + Unpin + Send + Sync>(
        &self,
        operation: &'static str,
        find: impl IntoFuture<Output = mongodb::error::Result<Cursor<T>>>,
    ) -> Result<Vec<T>, PortError> {
        self.call(operation, async { find.await?.try_collect().await }).await
    }

    /// All documents that a query finds and that can be read; of the others there is a warning.
    ///
    /// `read` makes of a document what it stands for, or says why it cannot.
    pub(crate) async fn readable<D, T>(
        &self,
        operation: &'static str,
        collection: &str,
        find: impl IntoFuture<Output = mongodb::error::Result<Cursor<RawDocumentBuf>>>,
        read: impl Fn(D) -> Result<T, PortError>,
    ) -> Result<Vec<T>, PortError>
    where
        D: DeserializeOwned,
    {
        Ok(self.read_some(operation, collection, find, usize::MAX, read).await?.0)
    }

    /// The first documents that can be read, as many as are wanted.
    pub(crate) async fn first_readable<D, T>(
        &self,
        operation: &'static str,
        collection: &str,
        find: impl IntoFuture<Output = mongodb::error::Result<Cursor<RawDocumentBuf>>>,
        wanted: usize,
        read: impl Fn(D) -> Result<T, PortError>,
    ) -> Result<Vec<T>, PortError>
    where
        D: DeserializeOwned,
    {
        Ok(self.read_some(operation, collection, find, wanted, read).await?.0)
    }

    /// The first documents that can be read, and how many were looked at.
    pub(crate) async fn read_some<D, T>(
        &self,
        operation: &'static str,
        collection: &str,
        find: impl IntoFuture<Output = mongodb::error::Result<Cursor<RawDocumentBuf>>>,
        wanted: usize,
        read: impl Fn(D) -> Result<T, PortError>,
    ) -> Result<(Vec<T>, usize), PortError>
    where
        D: DeserializeOwned,
    {
        use futures::TryStreamExt;
        let all = async {
            let (mut found, mut seen) = (Vec::new(), 0);
            let mut cursor = find.await?;
            while found.len() < wanted
                && let Some(document) = cursor.try_next().await?
            {
                seen += 1;
                match decoded(&document).and_then(&read) {
                    Ok(value) => found.push(value),
                    Err(error) => self.unreadable.warn(collection, &document, &error),
                }
            }
            Ok((found, seen))
        };
        self.call(operation, all).await
    }

    /// Executes statements that each stand alone with one command, outside of a transaction.
    ///
    /// The command is not sent again by itself when the answer is lost: the outcome is unknown then.
    pub(crate) async fn write(
        &self,
        operation: &'static str,
        collection: &str,
        write: Write,
        statements: Vec<Document>,
    ) -> Result<Written, PortError> {
        let mut command = write.command(&self.name(collection), statements);
        command.insert("ordered", false);
        let limit = i64::try_from(self.config.time_limit.as_millis()).unwrap_or(i64::MAX);
        let concern = doc! { "w": "majority", "j": true, "wtimeout": limit };
        command.insert("writeConcern", concern);
        let reply = self.call(operation, self.database.run_command(command)).await?;
        if let Ok(concern) = reply.get_document("writeConcernError") {
            let cause = format!("not on a majority of the servers: {concern}");
            return Err(PortError::new(operation, PortErrorKind::Unknown, cause));
        }
        Ok(Written::read(&reply))
    }

    /// Executes statements with one command in a transaction.
    pub(crate) async fn write_in(
        &self,
        session: &mut ClientSession,
        collection: &str,
        write: Write,
        statements: Vec<Document>,
    ) -> mongodb::error::Result<Written> {
        let command = write.command(&self.name(collection), statements);
        let reply = self.database.run_command(command).session(session).await?;
        Ok(Written::read(&reply))
    }

    /// Makes an index unless it is there. One that is there with other options is changed.
    pub(crate) async fn index(
        &self,
        collection: &str,
        keys: Document,
        options: IndexOptions,
    ) -> Result<(), PortError> {
        const OPERATION: &str = "make an index";
        /// There is one of these keys with other options; there is one of this name.
        const OTHERWISE: [i32; 2] = [85, 86];
        if !self.config.create {
            return Ok(());
        }
        let expires = options.expire_after;
        let index = IndexModel::builder().keys(keys.clone()).options(options).build();
        let indexed = self.collection::<Document>(collection);
        let make = async || {
            let made = timeout(self.config.time_limit, indexed.create_index(index.clone())).await;
            made.unwrap_or_else(|_| Err(std::io::Error::from(TimedOut).into()))
        };
        let error = match make().await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        match &*error.kind {
            ErrorKind::Command(command) if OTHERWISE.contains(&command.code) => {}
            _ => return Err(port_error(OPERATION, error)),
        }
        if let Some(expires) = expires {
            let seconds = i64::try_from(expires.as_secs()).unwrap_or(i64::MAX);
            let change = doc! {
                "collMod": self.name(collection),
                "index": { "keyPattern": keys.clone(), "expireAfterSeconds": seconds },
            };
            let change = self.call("change an index", self.database.run_command(change)).await;
            if change.is_ok() {
                return Ok(());
            }
        }
        // Other options cannot be changed: it is made again.
        let known: Vec<IndexModel> = self
            .call(OPERATION, async { indexed.list_indexes().await?.try_collect().await })
            .await?;
        for old in known.into_iter().filter(|old| old.keys == keys) {
            if let Some(name) = old.options.and_then(|options| options.name) {
                self.call("change an index", indexed.drop_index(name)).await?;
            }
        }
        make().await.map(drop).map_err(|error| port_error(OPERATION, error))
    }

    pub(crate) fn prepare_error(&self, source: PortError) -> MongoError {
        MongoError::Prepare { database: self.database.name().to_owned(), source }
    }
}

fn durable(config: &MongoConfig) -> WriteConcern {
    let majority = WriteConcern::builder().w(Acknowledgment::Majority).journal(true);
    majority.w_timeout(config.time_limit).build()
}

/// A command that takes many statements.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Write {
    Insert,
    Update,
}

impl Write {
    fn command(self, collection: &str, statements: Vec<Document>) -> Document {
        let (name, field) = match self {
            Self::Insert => ("insert", "documents"),
            Self::Update => ("update", "updates"),
        };
        doc! { name: collection, field: statements }
    }
}

/// How the statements of a command ended.
#[derive(Debug)]
pub(crate) struct Written {
    /// How many documents were inserted or matched.
    pub(crate) count: usize,
    /// Statements that failed: position, code, text.
    pub(crate) errors: Vec<(usize, i32, String)>,
}

impl Written {
    fn read(reply: &Document) -> Self {
        let errors = reply.get_array("writeErrors").into_iter().flatten();
        let errors = errors.filter_map(Bson::as_document).map(|error| {
            let index = number(error, "index").unwrap_or_default();
            let code = number(error, "code").unwrap_or_default();
            let text = error.get_str("errmsg").unwrap_or_default().to_owned();
            (index as usize, code as i32, text)
        });
        let count = number(reply, "n").unwrap_or_default();
        Self { count: count as usize, errors: errors.collect() }
    }

    /// The first failure, if there is one.
    pub(crate) fn all(self, operation: &'static str) -> Result<(), PortError> {
        Self::first(operation, self.errors.into_iter())
    }

    /// The first failure that is not of this code.
    pub(crate) fn except(self, operation: &'static str, code: i32) -> Result<(), PortError> {
        Self::first(operation, self.errors.into_iter().filter(|error| error.1 != code))
    }

    fn first(
        operation: &'static str,
        mut errors: impl Iterator<Item = (usize, i32, String)>,
    ) -> Result<(), PortError> {
        match errors.next() {
            None => Ok(()),
            Some((_, code, text)) => Err(write_error(operation, code, text)),
        }
    }
}

pub(crate) fn write_error(operation: &'static str, code: i32, text: String) -> PortError {
    PortError::new(operation, kind_of_code(code), format!("{text} (MongoDB's error {code})"))
}

/// A whole number, in whichever type the server chose.
pub(crate) fn number(document: &Document, field: &str) -> Option<i64> {
    match document.get(field)? {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        Bson::Double(number) => Some(*number as i64),
        _ => None,
    }
}

/// Milliseconds since the Unix epoch, by this machine's clock.
pub(crate) fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
