//! What Linux tells of a process.

use std::collections::HashSet;
use std::fs;

use anyhow::Context;

/// Kilobytes that it holds in memory.
pub(crate) fn resident_kb(process: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("only Linux tells its memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    Ok(line.context("the status has no memory")?.parse()?)
}

/// Seconds of processor that it has used.
pub(crate) fn processor_seconds(process: u32) -> anyhow::Result<f64> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread that has ended meanwhile is not counted: those that work stay.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        let first = text.split_whitespace().next().context("the statistics have no time")?;
        nanoseconds += first.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// Its open descriptors.
pub(crate) fn descriptors(process: u32) -> anyhow::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

/// Its TCP ports on which it listens.
pub(crate) fn listeners(process: u32) -> anyhow::Result<usize> {
    let mut sockets = HashSet::new();
    for entry in fs::read_dir(format!("/proc/{process}/fd"))? {
        // Closed meanwhile: then it is not its own any more.
        let Ok(link) = fs::read_link(entry?.path()) else { continue };
        let text = link.to_string_lossy().into_owned();
        sockets.extend(text.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')).map(str::to_owned));
    }
    let mut listening = 0;
    for table in ["tcp", "tcp6"] {
        let table = fs::read_to_string(format!("/proc/{process}/net/{table}"))?;
        // Columns: number, local, remote, state (0A listens), queues, timer, retransmissions, user, time-out, inode.
        let own =
            table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|words| {
                words.get(3) == Some(&"0A") && words.get(9).is_some_and(|inode| sockets.contains(*inode))
            });
        listening += own.count();
    }
    Ok(listening)
}
