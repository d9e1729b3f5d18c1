//! A program under test, and what goes in and out of it.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use serde_json::Value;

pub(crate) use crate::samples::{FAILING, HELLO, LATE};

/// What takes longer hangs. Thousands of events take half a minute, and more, of a debug build on a
/// machine that others keep busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// A question to ann, a second one after the answer, and an end.
pub(crate) const TALK: &str = r#"{ "name": "Talk", "reactions": [
  { "name": "ask", "condition": {
    "type": "filter", "xpr": "$event.type = 'ask'",
    "onTrue": { "setLocal": { "what": "$xpr($event.id)" } },
    "transform": { "eventDataTemplate": { "title": "$xpr('First ' & $event.id)" } },
    "publish": { "to": "ann" } } },
  { "name": "wait",
    "expiry": { "interval": 1500, "transition": { "name": "$terminate" } },
    "condition": {
      "type": "filter", "xpr": "true",
      "transform": { "eventDataTemplate": { "title": "$xpr('Second ' & $local('what'))" } },
      "publish": { "to": "ann" } } },
  { "name": "end", "condition": {
    "type": "filter", "xpr": "true",
    "transform": { "eventDataTemplate": { "title": "$xpr('Third ' & $local('what'))" } },
    "publish": { "to": "ann" } } }
] }"#;

/// Fails no more: `FAILING`, mended.
pub(crate) const MENDED: &str = r#"{ "name": "Failing", "reactions": [
  { "name": "fail", "condition": {
    "type": "filter", "xpr": "$event.type = 'fail'",
    "transform": { "eventDataTemplate": { "title": "mended" } },
    "publish": { "to": "ann" } } }
] }"#;

/// Counts in one thred.
pub(crate) const COUNTING: &str = r#"{ "name": "Counting", "reactions": [
  { "name": "start", "condition": {
    "type": "filter", "xpr": "$event.type = 'start'", "onTrue": { "setLocal": { "n": 0 } } } },
  { "name": "count", "allowUnboundEvents": true, "condition": {
    "type": "filter", "xpr": "$event.type = 'count'",
    "onTrue": { "xpr": "$setLocal('n', $local('n') + 1)" },
    "transition": "$noTransition" } }
] }"#;

/// A directory with patterns in `patterns/`.
pub(crate) fn patterns(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("patterns")).unwrap();
    for (name, text) in files {
        fs::write(directory.path().join("patterns").join(name), text).unwrap();
    }
    directory
}

/// An unbound event as a line.
pub(crate) fn event(id: &str, kind: &str) -> String {
    format!(r#"{{"id":"{id}","type":"{kind}","source":{{"id":"erp"}}}}"#) + "\n"
}

/// An answer of ann to a thred as a line.
pub(crate) fn answer(id: &str, thred: &str) -> String {
    format!(r#"{{"id":"{id}","type":"answer","thredId":"{thred}","source":{{"id":"ann"}}}}"#) + "\n"
}

/// The title of a message.
pub(crate) fn title(message: &Value) -> String {
    message["event"]["data"]["title"].as_str().unwrap_or("-").to_owned()
}

/// The thred that a message is from.
pub(crate) fn thred(message: &Value) -> String {
    message["event"]["thredId"].as_str().expect("a thred").to_owned()
}

/// A command that is to end by itself.
pub(crate) fn srvthreds(directory: &Path, args: &[&str]) -> Output {
    let program = Program::start(directory, args);
    let (status, stdout, stderr) = program.ended();
    Output { status, stdout: stdout.into_bytes(), stderr: stderr.into_bytes() }
}

/// Standard output of a command that succeeds.
pub(crate) fn printed(directory: &Path, args: &[&str]) -> String {
    let output = srvthreds(directory, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Asks until the answer is what it must come to; gives that.
pub(crate) fn until(mut ask: impl FnMut() -> String, right: impl Fn(&str) -> bool) -> String {
    let since = Instant::now();
    loop {
        let answer = ask();
        if right(&answer) {
            return answer;
        }
        assert!(since.elapsed() < PATIENCE, "it stays at {answer}");
    }
}

/// A running program; it is killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
    /// Standard output that nobody reads.
    unread: Option<ChildStdout>,
}

impl Program {
    /// Starts `srvthreds run` on the store `data`, with the patterns in `patterns`, and waits until
    /// it is at work.
    pub(crate) fn live(directory: &Path, args: &[&str]) -> Self {
        let basic = ["run", "--data", "data", "--patterns", "patterns"];
        let mut program = Self::start(directory, &[&basic, args].concat());
        program.says("ready: ");
        program
    }

    /// Starts a command.
    pub(crate) fn start(directory: &Path, args: &[&str]) -> Self {
        let mut program = Self::start_unread(directory, args);
        program.stdout = Lines::of(program.unread.take().unwrap());
        program
    }

    /// Starts a command whose output nobody reads.
    pub(crate) fn start_unread(directory: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_srvthreds"))
            .current_dir(directory)
            .args(["--color", "never"])
            .args(args)
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let unread = child.stdout.take();
        let stderr = Lines::of(child.stderr.take().unwrap());
        Self { child, stdin, stdout: Lines::of(std::io::empty()), stderr, unread }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input.
    pub(crate) fn send(&mut self, lines: &str) {
        self.stdin.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
    }

    /// Writes as far as it takes it.
    pub(crate) fn try_send(&mut self, lines: &str) {
        let _ = self.stdin.as_mut().unwrap().write_all(lines.as_bytes());
    }

    /// Nobody reads its output any more.
    pub(crate) fn leave(&mut self) {
        self.unread = None;
    }

    /// Ends its standard input.
    pub(crate) fn end_input(&mut self) {
        self.stdin = None;
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        match self.stdout.next() {
            Some(line) => line,
            None => panic!("it has ended: {}", self.stderr.so_far()),
        }
    }

    /// The next line, if one comes in time.
    pub(crate) fn line_within(&mut self, time: Duration) -> Option<String> {
        self.stdout.lines.recv_timeout(time).ok()
    }

    /// The next message that it prints.
    pub(crate) fn message(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// The titles of the next messages, sorted.
    pub(crate) fn titles(&mut self, count: usize) -> Vec<String> {
        let mut titles: Vec<_> = (0..count).map(|_| title(&self.message())).collect();
        titles.sort();
        titles
    }

    /// Waits until it says something on standard error; gives the line.
    pub(crate) fn says(&mut self, part: &str) -> String {
        loop {
            match self.stderr.next() {
                Some(line) if line.contains(part) => return line,
                Some(_) => {}
                None => panic!("it has ended without saying `{part}`:\n{}", self.stderr.so_far()),
            }
        }
    }

    /// Sends it a signal, as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Kills it, as a crash does; gives what it had printed that nobody had read.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.stdout.rest()
    }

    /// Waits for its end; gives what it has printed since.
    pub(crate) fn ended(mut self) -> (ExitStatus, String, String) {
        self.stdin = None;
        self.left_alone()
    }

    /// Waits until it ends by itself, its input still open.
    pub(crate) fn left_alone(mut self) -> (ExitStatus, String, String) {
        let since = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(since.elapsed() < PATIENCE, "it does not end: {}", self.stderr.so_far());
            std::thread::sleep(Duration::from_millis(5));
        };
        (status, self.stdout.rest(), self.stderr.rest())
    }

    /// Ends it with a signal, which it must do in order.
    pub(crate) fn stop(self) -> String {
        self.signal("TERM");
        let (status, stdout, stderr) = self.ended();
        assert_eq!(status.code(), Some(0), "{stderr}");
        stdout
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines as they come.
struct Lines {
    lines: Receiver<String>,
    before: String,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines, before: String::new() }
    }

    /// `None` at the end.
    fn next(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.before.push_str(&line);
                self.before.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("nothing comes any more after\n{}", self.so_far())
            }
        }
    }

    /// All up to the end that was not read.
    fn rest(&mut self) -> String {
        let mut rest = String::new();
        while let Some(line) = self.next() {
            rest.push_str(&line);
            rest.push('\n');
        }
        rest
    }

    fn so_far(&mut self) -> String {
        while let Ok(line) = self.lines.try_recv() {
            self.before.push_str(&line);
            self.before.push('\n');
        }
        let lines: Vec<_> = self.before.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}
