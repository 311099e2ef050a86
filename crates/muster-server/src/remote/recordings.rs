//! The folder of what terminals showed: a file for each, which grows while the terminal runs.
//!
//! What was shown is in the file before anybody sees it, so a killed server loses nothing of
//! it. Watchers read the file, each at its own pace: none can hold up the terminal.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use muster_core::invalid::Invalid;
use muster_core::limits::WATCHERS_MAX;
use muster_core::remote_session::SessionKind;
use muster_link::stream::TerminalSize;
use muster_store::remote_sessions::RemoteSession;
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::asciicast::{Asciicast, Way};
use super::sessions;
use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// Below the data folder.
const FOLDER: &str = "recordings";
const SUFFIX: &str = ".cast";
/// Recordings that one statement is about.
const SWEEP_BATCH: usize = 500;

/// How far a recording is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Its bytes.
    pub bytes: u64,
    /// Nothing more comes.
    pub is_over: bool,
}

/// The folder.
#[derive(Debug)]
pub struct Recordings {
    root: PathBuf,
    growing: Mutex<HashMap<String, watch::Receiver<Progress>>>,
    /// Who may watch at once.
    pub(super) watchers: Arc<Semaphore>,
}

impl Recordings {
    /// Makes the folder where it is missing. It is nobody else's on this machine.
    pub fn open(data: &Path) -> io::Result<Self> {
        let root = data.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        Ok(Self { root, growing: Mutex::default(), watchers: Arc::new(Semaphore::new(WATCHERS_MAX)) })
    }

    fn path(&self, session: &str) -> PathBuf {
        self.root.join(format!("{session}{SUFFIX}"))
    }

    /// How far that recording is, while it grows.
    pub fn growing(&self, session: &str) -> Option<watch::Receiver<Progress>> {
        self.with(|growing| growing.get(session).cloned())
    }

    /// The sessions whose recordings lie in the folder.
    fn listed(&self) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.root)? {
            // What bears another name is not this program's.
            found.extend(entry?.file_name().to_str().and_then(|name| name.strip_suffix(SUFFIX)).map(str::to_owned));
        }
        Ok(found)
    }

    async fn remove(&self, sessions: &[String]) {
        for session in sessions {
            match tokio::fs::remove_file(self.path(session)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, session, "a recording could not be removed");
                }
                _ => {}
            }
        }
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut HashMap<String, watch::Receiver<Progress>>) -> T) -> T {
        use_it(&mut self.growing.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Records one terminal.
pub struct Recorder {
    app: App,
    session: String,
    file: Arc<File>,
    cast: Asciicast,
    began: Instant,
    bytes: u64,
    is_cut_short: bool,
    progress: watch::Sender<Progress>,
}

impl Recorder {
    /// Begins the recording of a session.
    pub async fn begin(app: &App, session: &str, size: TerminalSize, title: &str, term: &str) -> io::Result<Self> {
        let path = app.recordings.path(session);
        let opened = tokio::task::spawn_blocking(move || {
            OpenOptions::new().create_new(true).append(true).mode(0o600).open(path)
        });
        let file = opened.await.map_err(io::Error::other)??;
        let (progress, receiver) = watch::channel(Progress::default());
        app.recordings.with(|growing| growing.insert(session.to_owned(), receiver));
        let mut recorder = Self {
            app: app.clone(),
            session: session.to_owned(),
            file: Arc::new(file),
            cast: Asciicast::default(),
            began: Instant::now(),
            bytes: 0,
            is_cut_short: false,
            progress,
        };
        let header = Asciicast::header(size, app.clock().now(), title, term);
        recorder.write(header).await?;
        Ok(recorder)
    }

    /// Bytes that the terminal shows.
    pub async fn output(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.cast.bytes(self.began.elapsed(), Way::Output, bytes) {
            Some(line) => self.write(line).await,
            None => Ok(()),
        }
    }

    /// Bytes that are typed, which are kept only where that is wanted: passwords are among them.
    pub async fn input(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.app.config.records_input {
            return Ok(());
        }
        match self.cast.bytes(self.began.elapsed(), Way::Input, bytes) {
            Some(line) => self.write(line).await,
            None => Ok(()),
        }
    }

    /// The terminal has another size.
    pub async fn resize(&mut self, size: TerminalSize) -> io::Result<()> {
        self.write(Asciicast::resize(self.began.elapsed(), size)).await
    }

    /// Whether it reached its limit, and says so.
    pub fn is_cut_short(&self) -> bool {
        self.is_cut_short
    }

    async fn write(&mut self, mut line: String) -> io::Result<()> {
        if self.is_cut_short {
            return Ok(());
        }
        let most = self.app.config.recording_bytes_max;
        if self.bytes + line.len() as u64 > most {
            self.is_cut_short = true;
            let why = format!("The recording ends here: it has reached its limit of {most} bytes.");
            line = Asciicast::marker(self.began.elapsed(), &why);
        }
        self.bytes += line.len() as u64;
        let file = Arc::clone(&self.file);
        // Written to its end even if nobody waits for it any more: a line is never half there.
        let written = tokio::task::spawn_blocking(move || file.as_ref().write_all(line.as_bytes()));
        written.await.map_err(io::Error::other)??;
        self.progress.send_replace(Progress { bytes: self.bytes, is_over: false });
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.progress.send_replace(Progress { bytes: self.bytes, is_over: true });
        self.app.recordings.with(|growing| growing.remove(&self.session));
    }
}

/// A recording, opened to be read.
pub struct Opened {
    /// Its session.
    pub session: RemoteSession,
    /// Its file.
    pub file: tokio::fs::File,
    /// How far it is, where it grows.
    pub growing: Option<watch::Receiver<Progress>>,
}

/// Opens a recording, to replay or to watch it, of which the audit log tells.
pub async fn open(app: &App, permitted: &Permitted, uuid: &str) -> Result<Opened> {
    let session = sessions::find(app, permitted, uuid).await?;
    let terminal = session.terminal.filter(|_| session.kind == SessionKind::Terminal);
    if !terminal.is_some_and(|terminal| terminal.is_kept) {
        return Err(OpError::not_found("recording of", uuid));
    }
    let growing = app.recordings.growing(&session.uuid);
    let file = match tokio::fs::File::open(app.recordings.path(&session.uuid)).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(elsewhere(&session.uuid)),
        Err(error) => return Err(OpError::Internal(format!("a recording: {error}"))),
    };
    let detail = json!({ "device_uuid": session.device_uuid, "actor": session.created_by, "target": session.target });
    let event = &permitted.event(format!("remote_session:{}", session.uuid), detail);
    app.store.write(|tx| async move { Ok::<_, WorkError>(tx.audit(event).await?) }).await?;
    Ok(Opened { session, file, growing })
}

fn elsewhere(uuid: &str) -> OpError {
    let problem = format!("the recording of {uuid} lies in the data folder of another server");
    OpError::NotNow { code: "not_supported_by_server", problem: Invalid::new("session_id", problem) }
}

/// Deletes the recordings whose time is over, and those whose sessions went with their devices.
pub async fn sweep(app: &App) -> Result<()> {
    loop {
        let due = app.store.read().recordings_due(&app.home, SWEEP_BATCH as u64).await?;
        if due.is_empty() {
            break;
        }
        app.recordings.remove(&due).await;
        let due = due.as_slice();
        app.store.write(|tx| async move { Ok::<_, WorkError>(tx.forget_recordings(due).await?) }).await?;
    }
    let listed = app.recordings.listed().map_err(|error| OpError::Internal(format!("recordings: {error}")))?;
    for batch in listed.chunks(SWEEP_BATCH) {
        // A file is made after its row: what has none now never will.
        let known = app.store.read().known_remote_sessions(batch).await?;
        let orphans: Vec<_> = batch.iter().filter(|session| !known.contains(session)).cloned().collect();
        app.recordings.remove(&orphans).await;
    }
    Ok(())
}
