use std::sync::Arc;

use thredcore::testing::Bed;
use thredlib::Event;

use super::{list::list, show::show, watch};
use crate::{
    cli::{
        Outcome,
        testing::{args, ask, bed, fail, queries},
    },
    query::{Queries, Remote, Served},
};

async fn text(
    work: impl AsyncFnOnce(&mut Vec<u8>) -> Result<Outcome, crate::cli::store::Trouble>,
) -> String {
    let mut out = Vec::new();
    assert_eq!(work(&mut out).await.unwrap(), Outcome::Good);
    String::from_utf8(out).unwrap()
}

async fn listed(line: &[&str], queries: &dyn Queries) -> String {
    text(async |out| list(&args(line), queries, out).await).await
}

#[tokio::test]
async fn a_list_is_aligned_and_filtered() {
    let mut bed = bed().await;
    let first = ask(&mut bed, "1", "a car").await;
    bed.advance(1_500).await.unwrap();
    let second = ask(&mut bed, "2", "a boat").await;
    let queries = queries(&bed);
    assert_eq!(
        listed(&[], &queries).await,
        format!(
            "\
ID                                    PATTERN   REACTION  STATUS  SINCE                    NEXT TIMER
{first}  approval  wait      active  2026-01-01 00:00:00.000  2026-01-01 00:01:00.000
{second}  approval  wait      active  2026-01-01 00:00:01.500  2026-01-01 00:01:01.500
2 threds
"
        )
    );
    for none in [["--pattern", "other"], ["--participant", "bob"], ["--status", "terminated"]] {
        assert_eq!(listed(&none, &queries).await, "no threds\n");
    }
    let all = ["--pattern", "approval", "--participant", "ann", "--status", "all"];
    assert!(listed(&all, &queries).await.ends_with("2 threds\n"));

    let page = listed(&["--limit", "1"], &queries).await;
    let after = page.trim_end().rsplit_once("1 thred, and there are more: --after ").unwrap().1;
    let page = listed(&["--after", after.trim_matches('\'')], &queries).await;
    assert!(page.contains(second.as_str()) && page.ends_with("\n1 thred\n"), "{page}");

    let json = listed(&["--json"], &queries).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["threds"][1]["id"], second.as_str());
    assert_eq!(json["threds"][1]["expiresAt"], 1_767_225_661_500_i64);
}

/// A thred that has gone all its way.
async fn answered(bed: &mut Bed) -> String {
    let id = ask(bed, "1", "a car").await;
    bed.advance(2_000).await.unwrap();
    let answer = Event::builder("answer", "ann").id("2").thred(id.clone()).build();
    bed.send(answer).await.unwrap();
    id.to_string()
}

#[tokio::test]
async fn a_thred_is_shown_with_its_timeline() {
    let mut bed = bed().await;
    let id = answered(&mut bed).await;
    let queries = queries(&bed);
    let shown = text(async |out| show(&args(&[&id]), &queries, out).await).await;
    let first = bed.thred(&id.as_str().into()).await.unwrap().unwrap();
    let messages: Vec<_> = bed.take_messages().into_iter().map(|it| it.id).collect();
    assert_eq!(
        shown,
        format!(
            "\
thred         {id}
pattern       approval, revision {revision:016x}
status        terminated
reaction      wait, since 2026-01-01 00:00:00.000
next timer    -
version       2
started       2026-01-01 00:00:00.000
changed       2026-01-01 00:00:02.000
label         Approval
last          answer
participants  ann, erp
locals
  what = \"a car\"

history
   1  2026-01-01 00:00:00.000  ask from erp, event 1
        MATCH ask -> wait
        => to ann: \"Approve a car?\", message {first_message}
   2  2026-01-01 00:00:02.000  answer from ann, event 2
        MATCH wait -> $terminate
        TERMINATED wait
        => to ann, erp: \"Thanks\", message {second_message}
",
            revision = first.pattern.revision,
            first_message = messages[0],
            second_message = messages[1],
        )
    );
    let latest = text(async |out| show(&args(&[&id, "--limit", "1"]), &queries, out).await).await;
    assert!(latest.contains("(step 1 is not shown, or no longer kept)\n   2  "), "{latest}");
    let json = text(async |out| show(&args(&[&id, "--json"]), &queries, out).await).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["state"]["version"], &json["history"][1]["version"]), (&2.into(), &2.into()));

    let nobody = show(&args(&["nobody"]), &queries, &mut Vec::new()).await.unwrap();
    assert_eq!(nobody, Outcome::Bad);
}

#[tokio::test]
async fn a_watch_ends_with_its_thred() {
    let mut bed = bed().await;
    let id = answered(&mut bed).await;
    let queries = queries(&bed);
    let watched = text(async |out| watch::one(&id, false, &queries, out).await).await;
    assert!(watched.starts_with(&format!("thred         {id}\n")), "{watched}");
    assert!(watched.contains("\n   1  2026-01-01 00:00:00.000  ask from erp"), "{watched}");
    let lines = text(async |out| watch::one(&id, true, &queries, out).await).await;
    let versions = lines.lines().map(|line| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["version"].as_u64().unwrap()
    });
    assert_eq!(versions.collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn another_process_gets_the_same_answers() {
    let mut bed = bed().await;
    let id = answered(&mut bed).await;
    fail(&mut bed, "3").await;
    let directory = tempfile::tempdir().unwrap();
    assert!(Remote::connect(directory.path()).await.unwrap().is_none());
    let queries = Arc::new(queries(&bed));
    let served = Served::start(directory.path(), queries.clone()).unwrap();
    let remote = Remote::connect(directory.path()).await.unwrap().unwrap();
    for line in [&["--status", "all"][..], &["--json"], &["--limit", "1"]] {
        assert_eq!(listed(line, &remote).await, listed(line, &*queries).await);
    }
    let show = async |queries: &dyn Queries| {
        text(async |out| show(&args(&[&id, "--json"]), queries, out).await).await
    };
    assert_eq!(show(&remote).await, show(&*queries).await);
    let bad = listed_error(&remote).await;
    assert!(bad.contains("`after` is not what an earlier page gave"), "{bad}");

    // Only the owner of the files may ask, and nothing is left when the process ends.
    use std::os::unix::fs::PermissionsExt;
    let socket = directory.path().join("control.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    drop(served);
    assert!(!socket.exists());
    let gone = listed_error(&remote).await;
    assert_eq!(gone, "the process that owns the store has ended");
}

async fn listed_error(queries: &dyn Queries) -> String {
    let result = list(&args(&["--after", "nonsense"]), queries, &mut Vec::new()).await;
    match result {
        Err(crate::cli::store::Trouble::Store(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_question_that_is_too_long_or_no_question_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let bed = bed().await;
    let directory = tempfile::tempdir().unwrap();
    let _served = Served::start(directory.path(), Arc::new(queries(&bed))).unwrap();
    let mut stream =
        tokio::net::UnixStream::connect(directory.path().join("control.sock")).await.unwrap();
    stream.write_all(b"{\"threds\": 7}\n").await.unwrap();
    let mut line = vec![0; 1024];
    let length = stream.read(&mut line).await.unwrap();
    let line = String::from_utf8_lossy(&line[..length]);
    assert!(line.contains("not understood"), "{line}");
    // The answer may come before all of it is taken, and the rest then meets a closed door.
    let _ = stream.write_all(&vec![b' '; 2 << 20]).await;
    let mut rest = String::new();
    let _ = stream.read_to_string(&mut rest).await;
    assert!(rest.is_empty() || rest.contains("at most 1048576 bytes"), "{rest}");
}
