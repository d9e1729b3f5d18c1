//! Events that other programs publish to queues of RabbitMQ.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use thredcore::{
    AcceptError, Engine, Principal,
    port::{PortError, PortErrorKind},
};
use thredcore_amqp::{
    Admission, AmqpError, AmqpIngress, Door, IngressConfig, Principals, Submission,
};
use thredlib::{Event, ParticipantId};
use tokio::task::JoinSet;

use crate::{
    backend::{Backends, OpenError},
    cli::{
        files::{Unreadable, read_json},
        store::ServerArgs,
    },
    query::Unanswered,
};

/// Where other programs publish events, and who they are.
#[derive(Debug, clap::Args)]
pub(crate) struct IngressArgs {
    /// With RabbitMQ: a queue that other programs publish events to, one JSON object a message; may
    /// be given several times. One that exists is used as it is; else it is made, with an exchange of
    /// the same name. One process at a time reads it; what is refused goes to QUEUE.dead.
    #[arg(long = "ingress", value_name = "QUEUE", requires = ServerArgs::AMQP)]
    queues: Vec<String>,

    /// The participant that a user of the broker is; may be given several times. USER alone is the
    /// participant of the same name; USER=* may publish events of any source, as a gateway does that
    /// has checked who sends them. What other users publish is refused.
    #[arg(long = "ingress-user", value_name = "USER=PARTICIPANT", value_parser = user)]
    #[arg(requires = "queues")]
    users: Vec<(String, String)>,

    /// More of them, in a file: {"shop": "erp", "gateway": "*"}.
    #[arg(long = "ingress-users", value_name = "FILE", requires = "queues")]
    file: Option<PathBuf>,
}

/// Stands for all participants.
const ANYBODY: &str = "*";

fn user(text: &str) -> Result<(String, String), String> {
    let (user, participant) = text.split_once('=').unwrap_or((text, text));
    if user.is_empty() || participant.is_empty() {
        Err("write USER=PARTICIPANT".to_owned())
    } else {
        Ok((user.to_owned(), participant.to_owned()))
    }
}

/// What is wrong with the arguments.
#[derive(Debug)]
pub(super) enum Wrong {
    File(Unreadable),
    Users(String),
}

/// The queues to be read, and who publishes there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ingress {
    queues: Vec<String>,
    users: BTreeMap<String, ParticipantId>,
    /// Those of the users who may publish for others.
    gateways: HashSet<ParticipantId>,
}

impl Ingress {
    /// What the arguments say.
    pub(super) fn read(args: &IngressArgs) -> Result<Self, Wrong> {
        let of_file: BTreeMap<String, String> = args
            .file
            .as_deref()
            .map(read_json)
            .transpose()
            .map_err(Wrong::File)?
            .unwrap_or_default();
        let mut queues = args.queues.clone();
        queues.sort();
        queues.dedup();
        let mut this = Self { queues, ..Self::default() };
        let mut said: BTreeMap<String, String> = BTreeMap::new();
        for (user, participant) in args.users.iter().cloned().chain(of_file) {
            if user.is_empty() || participant.is_empty() {
                return Err(Wrong::Users("a user and its participant must have a name".to_owned()));
            }
            let before = said.insert(user.clone(), participant.clone());
            if before.is_some_and(|before| before != participant) {
                let text = format!("the user `{user}` of the broker is given two participants");
                return Err(Wrong::Users(text));
            }
            let is_gateway = participant == ANYBODY;
            let id = ParticipantId::from(if is_gateway { &user } else { &participant }.as_str());
            if is_gateway {
                this.gateways.insert(id.clone());
            }
            this.users.insert(user, id);
        }
        // Else a user who is mapped to the name of a gateway would be one, too.
        for gateway in &this.gateways {
            let mut others = this.users.iter().filter(|(user, _)| *user != gateway.as_str());
            if let Some((user, _)) = others.find(|(_, id)| *id == gateway) {
                return Err(Wrong::Users(format!(
                    "the users `{gateway}` and `{user}` of the broker are both the participant \
                     `{gateway}`, but only one of them may publish for others; give them different \
                     participants"
                )));
            }
        }
        if this.users.is_empty() && !this.queues.is_empty() {
            return Err(Wrong::Users(format!(
                "nobody may publish to `{}`; add --ingress-user USER=PARTICIPANT",
                this.queues[0]
            )));
        }
        Ok(this)
    }

    /// Opens the queues.
    pub(super) async fn open(&self, backends: &Backends) -> Result<Intake, OpenError> {
        let intake = Intake::default();
        let table = Principals::Table(self.users.clone().into_iter().collect());
        for queue in &self.queues {
            let config = IngressConfig::new(queue).principals(table.clone());
            let ingress = Arc::new(backends.ingress(config).await?);
            intake.0.lock().push(ingress);
        }
        Ok(intake)
    }

    /// Starts to take in what is published; ends when what is returned is dropped.
    pub(super) fn start(&self, intake: &Intake, engine: &Engine) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for ingress in intake.all() {
            let (engine, gateways) = (engine.clone(), self.gateways.clone());
            tasks.spawn(attend(ingress, Arc::new(EngineDoor { engine, gateways })));
        }
        tasks
    }
}

/// The queues that are being read.
#[derive(Clone, Default)]
pub(super) struct Intake(Arc<Mutex<Vec<Arc<AmqpIngress>>>>);

/// What an intake has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) accepted: u64,
    pub(super) refused: u64,
}

impl Intake {
    fn all(&self) -> Vec<Arc<AmqpIngress>> {
        self.0.lock().clone()
    }

    /// How much waits there.
    pub(super) async fn depth(&self) -> Result<usize, PortError> {
        let mut depth = 0;
        for ingress in self.all() {
            depth += ingress.depth().await.map_err(|error| {
                let kind = PortErrorKind::Unavailable;
                PortError::new("look at an ingress queue", kind, error)
            })?;
        }
        Ok(depth)
    }

    /// Lets others have the queues, and what of them is in hand here; says what came of them. `None`
    /// when there are none.
    pub(super) fn end(&self) -> Option<Taken> {
        let ended = std::mem::take(&mut *self.0.lock());
        let counts = ended.iter().map(|ingress| ingress.counts());
        counts.map(|it| Taken { accepted: it.accepted, refused: it.refused }).reduce(|a, b| Taken {
            accepted: a.accepted + b.accepted,
            refused: a.refused + b.refused,
        })
    }
}

/// Reads a queue until the queues are closed. Should that panic, a defect, it starts again, loudly.
async fn attend(ingress: Arc<AmqpIngress>, door: Arc<EngineDoor>) {
    const PAUSE: Duration = Duration::from_secs(1);
    loop {
        let (reading, door) = (ingress.clone(), door.clone());
        // Its end is the end of what it runs.
        let mut reader = JoinSet::new();
        reader.spawn(async move { reading.run(&*door).await });
        match reader.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                let queue = ingress.queue();
                tracing::error!(queue, "reading an ingress panicked and starts again; a defect");
                tokio::time::sleep(PAUSE).await;
            }
            Some(Ok(Err(AmqpError::Closed))) | None => return,
            Some(ended) => {
                tracing::error!(?ended, queue = ingress.queue(), "reading an ingress ended");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The door of an engine.
struct EngineDoor {
    engine: Engine,
    gateways: HashSet<ParticipantId>,
}

#[async_trait]
impl Door for EngineDoor {
    async fn admit(&self, submissions: &[Submission]) -> Vec<Admission> {
        let mut answers = Vec::with_capacity(submissions.len());
        for run in submissions.chunk_by(|a, b| a.principal == b.principal) {
            answers.extend(self.admit_run(&run[0].principal, run).await);
            if matches!(answers.last(), Some(Admission::Later(_))) {
                break;
            }
        }
        answers
    }
}

impl EngineDoor {
    /// Takes in what one principal has sent. The last answer may be that the rest is for later.
    async fn admit_run(&self, id: &ParticipantId, run: &[Submission]) -> Vec<Admission> {
        let principal = if self.gateways.contains(id) {
            Principal::acting_for_others(id.clone())
        } else {
            Principal::new(id.clone())
        };
        let read: Vec<_> = run.iter().map(|it| self.engine.read_event(&it.body)).collect();
        let events: Vec<Event> = read.iter().filter_map(|it| it.as_ref().ok()).cloned().collect();
        // One after the other only where one of them is not taken.
        let together = match self.accept(&principal, events).await {
            Admission::Later(why) => return vec![Admission::Later(why)],
            answer => answer == Admission::Accepted,
        };
        let mut answers = Vec::with_capacity(run.len());
        for read in read {
            answers.push(match read {
                Ok(_) if together => Admission::Accepted,
                Ok(event) => self.accept(&principal, vec![event]).await,
                Err(error) => refused(&error),
            });
            if matches!(answers.last(), Some(Admission::Later(_))) {
                break;
            }
        }
        answers
    }

    async fn accept(&self, principal: &Principal, events: Vec<Event>) -> Admission {
        if events.is_empty() {
            return Admission::Accepted;
        }
        match self.engine.accept_from(principal, events).await {
            Ok(()) => Admission::Accepted,
            // It may be there already; its id makes that harmless.
            Err(AcceptError::Port(error)) if error.kind() != PortErrorKind::Rejected => {
                Admission::Later(Unanswered::because(&error).0)
            }
            Err(error) => refused(&error),
        }
    }
}

fn refused(error: &AcceptError) -> Admission {
    Admission::Refused(Unanswered::because(error).0)
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    fn read(line: &[&str]) -> Result<Ingress, String> {
        let command = <IngressArgs as clap::Args>::augment_args(clap::Command::new("test"));
        let command = command.arg(clap::Arg::new("amqp").long("amqp"));
        let all = ["test", "--amqp", "amqp://here"].iter().chain(line);
        let matches = command.try_get_matches_from(all).map_err(|error| error.to_string())?;
        let args = IngressArgs::from_arg_matches(&matches).unwrap();
        Ingress::read(&args).map_err(|wrong| match wrong {
            Wrong::File(file) => format!("{}: {}", file.name, file.reason),
            Wrong::Users(text) => text,
        })
    }

    #[test]
    fn users_are_read_from_arguments_and_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{ "till": "erp", "bridge": "*", "shop": "erp" }"#).unwrap();
        let name = file.path().to_str().unwrap();
        let line = ["--ingress", "a", "--ingress", "b", "--ingress-user", "shop=erp"];
        let more = ["--ingress-user", "ann", "--ingress-users", name];
        let found = read(&[&line[..], &more].concat()).unwrap();
        assert_eq!(found.queues, ["a", "b"]);
        let users: Vec<_> = found.users.iter().map(|(user, id)| (&**user, id.as_str())).collect();
        assert_eq!(users, [("ann", "ann"), ("bridge", "bridge"), ("shop", "erp"), ("till", "erp")]);
        assert_eq!(found.gateways, HashSet::from(["bridge".into()]));
    }

    #[test]
    fn what_is_wrong_with_users_is_said() {
        for (line, said) in [
            (&["--ingress", "q"][..], "nobody may publish to `q`"),
            (&["--ingress-user", "shop=erp"], "required arguments were not provided"),
            (&["--ingress", "q", "--ingress-user", "=erp"], "write USER=PARTICIPANT"),
            (
                &["--ingress", "q", "--ingress-user", "shop=a", "--ingress-user", "shop=b"],
                "`shop` of the broker is given two participants",
            ),
            (
                &["--ingress", "q", "--ingress-user", "shop=*", "--ingress-user", "shop"],
                "`shop` of the broker is given two participants",
            ),
            (
                &["--ingress", "q", "--ingress-user", "bridge=*", "--ingress-user", "shop=bridge"],
                "only one of them may publish for others",
            ),
            (&["--ingress", "q", "--ingress-users", "/none.json"], "there is no such file"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(said), "{line:?}: {error}");
        }
    }
}
