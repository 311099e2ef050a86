//! Reads the texts in which the kernel and the distribution describe themselves.

/// The first line of `/proc/stat`, in ticks since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTimes {
    total: u64,
    idle: u64,
}

impl CpuTimes {
    /// From the text of `/proc/stat`.
    pub fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_whitespace().map_while(|ticks| ticks.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; guest time stands in user's already.
        let idle = ticks.get(3)?.saturating_add(ticks.get(4).copied().unwrap_or(0));
        let total = ticks.iter().take(8).fold(0_u64, |sum, ticks| sum.saturating_add(*ticks));
        Some(Self { total, idle })
    }

    /// Share of the processors in use between `earlier` and now; `None` when no time has passed.
    #[expect(clippy::cast_precision_loss, reason = "a percentage needs no 53 bits")]
    pub fn busy_percent_since(&self, earlier: &Self) -> Option<f64> {
        let total = self.total.checked_sub(earlier.total).filter(|total| *total > 0)?;
        // Time waited for disks may run backwards.
        let idle = self.idle.saturating_sub(earlier.idle).min(total);
        Some((total - idle) as f64 * 100.0 / total as f64)
    }
}

/// Share of the memory in use, from the text of `/proc/meminfo`.
#[expect(clippy::cast_precision_loss, reason = "a percentage needs no 53 bits")]
pub fn ram_percent(meminfo: &str) -> Option<f64> {
    let kib = |key: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let (total, available) = (kib("MemTotal:")?, kib("MemAvailable:")?);
    (total > 0).then(|| total.saturating_sub(available) as f64 * 100.0 / total as f64)
}

/// The system's name, from the text of `os-release`.
pub fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.trim().strip_prefix("PRETTY_NAME="))?.trim();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    let bare = quote.and_then(|quote| value.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(value);
    let mut name = String::new();
    let mut chars = bare.chars();
    while let Some(c) = chars.next() {
        // A shell reads the file, so a backslash takes the meaning from what follows.
        name.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_use_of_the_processors_between_two_looks() {
        let before = CpuTimes::parse("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3\n").unwrap();
        let after = CpuTimes::parse("cpu  150 0 75 860 65 0 0 0 9 9\n").unwrap();
        assert_eq!(after.busy_percent_since(&before), Some(50.0));
        assert_eq!(before.busy_percent_since(&before), None);
        assert_eq!(before.busy_percent_since(&after), None);
        for text in ["", "cpu ", "cpu0 1 2 3 4\n", "cpu  a b c d"] {
            assert_eq!(CpuTimes::parse(text), None, "{text}");
        }
    }

    #[test]
    fn tells_the_use_of_the_memory() {
        let text = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    250 kB\n";
        assert_eq!(ram_percent(text), Some(75.0));
        assert_eq!(ram_percent("MemTotal: 0 kB\nMemAvailable: 0 kB\n"), None);
        assert_eq!(ram_percent("MemTotal: 10 kB\n"), None);
    }

    #[test]
    fn reads_the_systems_name_however_it_is_quoted() {
        let cases = [
            ("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n", Some("Debian GNU/Linux 13 (trixie)")),
            ("PRETTY_NAME='A \"B\"'", Some("A \"B\"")),
            ("PRETTY_NAME=Alpine", Some("Alpine")),
            ("PRETTY_NAME=\"a \\\"b\\\" \\$c\"", Some("a \"b\" $c")),
            ("PRETTY_NAME=\"\"", None),
            ("PRETTY_NAME=", None),
            ("NAME=x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(pretty_name(text).as_deref(), expected, "{text}");
        }
    }
}
