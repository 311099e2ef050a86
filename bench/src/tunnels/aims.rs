//! What Muster is meant to reach beside the others.

use super::{Found, What};
use crate::report::Bound;

/// Kilobytes that an idle stream may cost on each side.
const IDLE_KB_MAX: f64 = 20.0;
const THROUGHPUT: [What; 3] = [What::One, What::Eight, What::OneBack];
const LATENCY: [What; 4] = [What::RequestsP50, What::RequestsP99, What::AloneP50, What::AloneP99];

/// The aims, as far as those were measured that they speak of.
pub(super) fn of(all: &[Found]) -> Vec<Bound> {
    let get = |name: &str| all.iter().find(|found| found.name == name);
    let (Some(clear), Some(tls)) = (get("Muster"), get("Muster (TLS)")) else { return Vec::new() };
    let mut aims: Vec<Bound> = [clear, tls].into_iter().flat_map(idle).collect();
    let (Some(bore), Some(rathole), Some(noise)) = (get("bore"), get("rathole"), get("rathole (Noise)")) else {
        return aims;
    };
    for what in THROUGHPUT {
        aims.push(least(tls, &[noise], what, 1.5));
        aims.push(least(tls, &[rathole], what, 0.8));
    }
    aims.push(least(tls, &[noise], What::Connects, 2.0));
    aims.extend(LATENCY.map(|what| most(tls, noise, what)));
    for what in THROUGHPUT.into_iter().chain([What::Requests, What::Connects]) {
        aims.push(least(clear, &[bore, rathole], what, 1.0));
    }
    for what in LATENCY {
        // The faster one is what counts.
        let faster = if bore.get(what) < rathole.get(what) { bore } else { rathole };
        aims.push(most(clear, faster, what));
    }
    aims
}

fn idle(ours: &Found) -> impl Iterator<Item = Bound> + '_ {
    let bound =
        |(side, kb): &(&str, f64)| Bound::most(format!("{}: idle stream, {side}", ours.name), *kb, "KB", IDLE_KB_MAX);
    ours.idle_kb.iter().map(bound)
}

/// Ours as many times as the fastest of them.
fn least(ours: &Found, them: &[&Found], what: What, ratio: f64) -> Bound {
    let best = them.iter().copied().max_by(|a, b| a.get(what).total_cmp(&b.get(what))).unwrap_or(ours);
    let name = format!("{} beside {}: {}", ours.name, best.name, what.name().0);
    Bound::least(name, ours.ratio(best, what), "times", ratio)
}

/// Ours takes no longer than theirs.
fn most(ours: &Found, theirs: &Found, what: What) -> Bound {
    let name = format!("{} beside {}: {}", ours.name, theirs.name, what.name().0);
    Bound::most(name, ours.ratio(theirs, what), "times", 1.0)
}
