//! The storage: one document for each thred.

mod commit;
mod leases;
mod outbox;
mod patterns;
mod places;
mod quarantine;
mod receipts;
mod records;
mod strike;
mod threds;

use async_trait::async_trait;
pub(crate) use threds::kinds;

use mongodb::{
    action::Find,
    bson::{Bson, RawDocumentBuf, doc},
    options::IndexOptions,
};
use thredcore::port::PortError;

use self::{
    places::InLine,
    receipts::Receipts,
    strike::{Struck, strike_off},
};
use crate::{
    archive::{Filer, MongoArchive, Origin},
    connection::{Mongo, wall_clock},
    documents::{DEAD, LEASES, PARKED, PATTERNS, StateDocument, Step, THREDS, signed},
    error::MongoError,
};

/// A [`Storage`](thredcore::port::Storage) in MongoDB.
///
/// A commit is one write of one document: state, timer, outbox and the step of the past, under the
/// condition that the version is still the expected one and the inbox does not hold what is
/// consumed. The commits of a batch go together in one command. Steps move from the documents to the
/// [archive](MongoArchive) afterwards, which is where history and log are read from.
#[derive(Debug)]
pub struct MongoStorage {
    mongo: Mongo,
    archive: MongoArchive,
    filer: Filer,
    receipts: Receipts,
    in_line: InLine,
}

impl MongoStorage {
    /// The largest [commit](thredcore::port::Commit::size) that is surely taken: 6 MiB. A document
    /// of MongoDB holds 16 MiB, and lists of participants take up to two and a half times of what they
    /// take as JSON. Each participant is an entry of an index, too: a server's cache of 512 MiB takes
    /// some hundred thousand of them at a time.
    pub const MAX_COMMIT_BYTES: usize = 6 << 20;

    /// Opens the storage, and makes its indexes where they are missing.
    ///
    /// # Errors
    /// When an index cannot be made.
    pub async fn open(mongo: &Mongo) -> Result<Self, MongoError> {
        let archive = MongoArchive::open(mongo).await?;
        prepare(mongo).await.map_err(|error| mongo.prepare_error(error))?;
        let filer = Filer::start(archive.clone(), Threds(archive.clone()));
        let (mongo, receipts) = (mongo.clone(), Receipts::of(mongo));
        Ok(Self { mongo, archive, filer, receipts, in_line: InLine::default() })
    }

    /// The archive behind it.
    pub fn archive(&self) -> &MongoArchive {
        &self.archive
    }

    /// Archives the steps that killed processes have left behind. Done every 5 s by itself.
    ///
    /// # Errors
    /// Some may have been left as they are.
    pub async fn clean_up(&self) -> Result<(), PortError> {
        Threds(self.archive.clone()).tend().await
    }

    /// Waits until all that was committed here is in the archive; but for commits whose answer was
    /// lost, which are archived by [`clean_up`](Self::clean_up).
    pub async fn flush(&self) {
        self.filer.flush().await;
    }
}

/// An index costs each write of a document that is in it, so those of what only some threds have hold
/// only the documents that have the field.
async fn prepare(mongo: &Mongo) -> Result<(), PortError> {
    let all = IndexOptions::default;
    let having = |field: &str| {
        let filter = doc! { field: { "$exists": true } };
        IndexOptions::builder().partial_filter_expression(filter).build()
    };
    mongo.index(THREDS, doc! { "status": 1, "started": 1, "_id": 1 }, all()).await?;
    mongo.index(THREDS, doc! { "participants": 1, "started": 1, "_id": 1 }, all()).await?;
    mongo.index(THREDS, doc! { "pattern": 1, "started": 1, "_id": 1 }, all()).await?;
    mongo.index(THREDS, kinds(), all()).await?;
    mongo.index(THREDS, threds::timer_index(), having("due")).await?;
    mongo.index(THREDS, doc! { "oldest": 1 }, having("oldest")).await?;
    mongo.index(THREDS, doc! { "waits": 1, "_id": 1 }, having("waits")).await?;
    mongo.index(THREDS, doc! { "listens": 1 }, having("listens")).await?;
    mongo.index(THREDS, doc! { "unfiled": 1 }, having("unfiled")).await?;
    mongo.index(THREDS, doc! { "closed": 1, "_id": 1 }, having("closed")).await?;
    mongo.index(PARKED, doc! { "topic": 1, "at": 1, "_id": 1 }, all()).await?;
    let kept = mongo.config.dead_letters_time;
    let expiring = IndexOptions::builder().expire_after(kept).build();
    mongo.index(DEAD, doc! { "at": 1 }, expiring).await?;
    mongo.index(PATTERNS, doc! { "active": 1 }, all()).await?;
    mongo.index(LEASES, doc! { "until": 1 }, all()).await
}

/// The steps that are not archived yet, of each thred that is found.
async fn waiting(
    mongo: &Mongo,
    operation: &'static str,
    find: Find<'_, RawDocumentBuf>,
) -> Result<Vec<Vec<Step>>, PortError> {
    let mut fields = StateDocument::fields();
    fields.extend(doc! { "past": 1, "events": 1 });
    let read = |thred: StateDocument| Step::waiting(&thred);
    mongo.readable(operation, THREDS, find.projection(fields), read).await
}

/// The documents of the threds as the place where steps wait.
struct Threds(MongoArchive);

impl Threds {
    async fn archive_forgotten(&self) -> Result<(), PortError> {
        let mongo = &self.0.mongo;
        let age = i64::try_from(mongo.config.left_behind.as_millis()).unwrap_or(i64::MAX);
        let before = wall_clock().saturating_sub(age);
        let threds = mongo.collection::<RawDocumentBuf>(THREDS);
        // One look does not go on for ever.
        for _ in 0..LOOKS {
            let mut fields = StateDocument::fields();
            fields.extend(doc! { "past": 1, "events": 1 });
            let find = threds.find(doc! { "unfiled": { "$lte": before } }).projection(fields);
            let find = find.sort(doc! { "unfiled": 1 }).batch_size(AT_ONCE as u32);
            // Those that cannot be read stay; the cursor goes on behind them.
            let read = |thred: StateDocument| Step::waiting(&thred);
            let found =
                mongo.first_readable("look for forgotten steps", THREDS, find, AT_ONCE, read);
            let forgotten = found.await?;
            let steps = forgotten.concat();
            for steps in steps.chunks(256) {
                self.0.file(steps).await?;
                self.forget(steps).await?;
            }
            if forgotten.len() < AT_ONCE {
                break;
            }
        }
        Ok(())
    }
}

/// How many threds' forgotten steps are in memory at a time: each may have 16 MiB of them.
const AT_ONCE: usize = 64;
/// How many times as many are archived before the next pause.
const LOOKS: usize = 256;

#[async_trait]
impl Origin for Threds {
    async fn forget(&self, steps: &[Step]) -> Result<(), PortError> {
        let mut versions: std::collections::BTreeMap<&str, Vec<i64>> = Default::default();
        for step in steps {
            versions.entry(step.thred.as_str()).or_default().push(signed(step.version));
        }
        let now = wall_clock();
        let struck = versions.into_iter().map(|(id, versions)| {
            let versions: Vec<Bson> = versions.into_iter().map(Bson::from).collect();
            Struck::steps(id, versions, now)
        });
        strike_off(&self.0.mongo, "strike off steps", struck.collect()).await.map(drop)
    }

    async fn tend(&self) -> Result<(), PortError> {
        self.archive_forgotten().await
    }
}

/// How many steps a thred may have that are not archived yet, before its next commit has to wait.
const PAST_LIMIT: usize = 1_024;
