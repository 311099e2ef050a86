//! What the plan of a statement uses.

use anyhow::ensure;
use muster_store::{ConnectionTrait, Store};
use sea_orm::Statement;

use crate::report::Plan;

/// Tables with rows for each device.
const BIG: [&str; 5] = ["devices", "device_tags", "device_apps", "device_presence", "targets"];

/// The plan of the very statement that a store sent, with its values.
pub(super) async fn plan_of(store: &Store, mut statement: Statement) -> anyhow::Result<Plan> {
    statement.sql.insert_str(0, "EXPLAIN ");
    let rows = store.read().query_all_raw(statement).await?;
    let lines: Vec<String> = rows.iter().map(|row| row.try_get("", "QUERY PLAN")).collect::<Result<_, _>>()?;
    ensure!(!lines.is_empty(), "a plan without a line");
    let mut plan = Plan::default();
    for line in &lines {
        if let Some(index) = index(line) {
            add(&mut plan.indexes, index);
        }
        if let Some(table) = walked(line) {
            add(&mut plan.walked, table);
        }
    }
    Ok(plan)
}

fn add(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

fn index(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once(" using ").or_else(|| line.split_once("Bitmap Index Scan on "))?;
    let is_scan = before.contains("Index") || line.contains("Bitmap Index Scan");
    rest.split_whitespace().next().filter(|_| is_scan)
}

fn walked(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("Seq Scan on ")?;
    rest.split_whitespace().next().filter(|table| BIG.contains(table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lines_of_a_plan() {
        let line =
            "        ->  Parallel Index Only Scan using devices_fleet on devices  (cost=0.42..1.1 rows=1 width=8)";
        assert_eq!((index(line), walked(line)), (Some("devices_fleet"), None));
        let line = "  ->  Bitmap Index Scan on device_tags_tag  (cost=0.00..1.1 rows=1 width=0)";
        assert_eq!((index(line), walked(line)), (Some("device_tags_tag"), None));
        let line = "  ->  Parallel Seq Scan on devices  (cost=0.00..1.1 rows=1 width=8)";
        assert_eq!((index(line), walked(line)), (None, Some("devices")));
        let line = "  ->  Seq Scan on groups  (cost=0.00..1.1 rows=1 width=8)";
        assert_eq!((index(line), walked(line)), (None, None));
    }
}
