//! A run's journal on the disk: one line of JSON for each entry, appended and
//! flushed to the medium before anything is done for it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use muster_core::target::RunEvent;

use super::entry::Entry;
use crate::files::{private_file, sync_parent};

/// Where a run's journal ends, and where its reports stand in it.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    len_bytes: u64,
    /// Where the n-th report's entry stands: so that outputs need not be kept in memory.
    reports: Vec<Range<u64>>,
}

/// What a journal held.
#[derive(Debug)]
pub struct Opened {
    /// The journal, ready for more.
    pub journal: Journal,
    /// Its entries.
    pub entries: Vec<Entry>,
    /// Whether entries are lost, other than the one that a power cut tore.
    pub is_damaged: bool,
}

impl Journal {
    /// Opens the journal at `path`, which need not exist.
    ///
    /// An entry is flushed before the next one is written, so a power cut can tear
    /// the last line and no other: that line was never acted upon and is ignored.
    /// Anything else that cannot be read is damage; what stands before it is kept.
    pub fn open(path: &Path) -> io::Result<Opened> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let mut opened = Opened {
            journal: Self { path: path.to_owned(), len_bytes: 0, reports: Vec::new() },
            entries: Vec::new(),
            is_damaged: false,
        };
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(entry) = parse(line) else {
                opened.is_damaged = opened.journal.len_bytes + (line.len() as u64) < bytes.len() as u64;
                break;
            };
            opened.journal.note(&entry, line.len());
            opened.entries.push(entry);
        }
        Ok(opened)
    }

    fn note(&mut self, entry: &Entry, line_bytes: usize) {
        let end = self.len_bytes + line_bytes as u64;
        if entry.is_reported() {
            self.reports.push(self.len_bytes..end);
        }
        self.len_bytes = end;
    }

    /// Appends `entry`; it is on the disk when this returns.
    ///
    /// Writes at the end of the last whole entry, so that what an earlier attempt
    /// left there, torn by a power cut or a full disk, is gone.
    pub fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let file = private_file().truncate(false).open(&self.path)?;
        file.set_len(self.len_bytes)?;
        file.write_all_at(&line, self.len_bytes)?;
        file.sync_data()?;
        if self.len_bytes == 0 {
            sync_parent(&self.path)?;
        }
        self.note(entry, line.len());
        Ok(())
    }

    /// The report of that number.
    pub fn report(&self, seq: i64) -> io::Result<RunEvent> {
        let place = usize::try_from(seq - 1).ok().and_then(|i| self.reports.get(i));
        let place = place.ok_or_else(|| io::Error::other(format!("the journal has no report {seq}")))?;
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(place.start))?;
        let mut line = Vec::new();
        file.take(place.end - place.start).read_to_end(&mut line)?;
        let event = parse(&line).and_then(|entry| entry.report());
        event.ok_or_else(|| io::Error::other(format!("report {seq} cannot be read back")))
    }
}

/// The entry of a whole line.
fn parse(line: &[u8]) -> Option<Entry> {
    serde_json::from_slice(line.strip_suffix(b"\n")?).ok()
}

#[cfg(test)]
mod tests {
    use muster_core::clock::Timestamp;
    use muster_core::target::{Reason, RunOutcome};

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1);

    fn entries() -> [Entry; 4] {
        let reason = Reason::new("aborted", "x");
        [
            Entry::Accepted { at: AT },
            Entry::AbortRequested { at: AT },
            Entry::Finished { outcome: RunOutcome::Aborted, reason },
            Entry::Acked { seq: 2 },
        ]
    }

    fn written(path: &Path) -> Journal {
        let mut journal = Journal::open(path).unwrap().journal;
        entries().iter().for_each(|entry| journal.append(entry).unwrap());
        journal
    }

    #[test]
    fn reads_back_what_was_appended_and_finds_reports() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let journal = written(&path);
        let opened = Journal::open(&path).unwrap();
        assert_eq!((opened.entries.as_slice(), opened.is_damaged), (entries().as_slice(), false));
        for journal in [journal, opened.journal] {
            assert_eq!(journal.report(1).unwrap(), RunEvent::Accepted);
            assert!(matches!(journal.report(2).unwrap(), RunEvent::Finished { .. }));
            assert!(journal.report(3).is_err() && journal.report(0).is_err());
        }
    }

    #[test]
    fn ignores_a_torn_last_line_wherever_it_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        written(&path);
        let whole = fs::read(&path).unwrap();
        let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for cut in last + 1..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut opened = Journal::open(&path).unwrap();
            assert_eq!((opened.entries.len(), opened.is_damaged), (3, false), "cut at {cut}");
            opened.journal.append(&Entry::Acked { seq: 1 }).unwrap();
            assert_eq!(Journal::open(&path).unwrap().entries[3], Entry::Acked { seq: 1 });
        }
        let mut zeros = whole[..last].to_vec();
        zeros.extend([0, 0, 0, b'\n']);
        fs::write(&path, zeros).unwrap();
        assert!(!Journal::open(&path).unwrap().is_damaged, "pages of one entry may reach the disk in any order");
    }

    #[test]
    fn tells_damage_from_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        written(&path);
        let mut bytes = fs::read(&path).unwrap();
        bytes[3] = 0;
        fs::write(&path, bytes).unwrap();
        let opened = Journal::open(&path).unwrap();
        assert_eq!((opened.entries.len(), opened.is_damaged), (0, true));
    }
}
