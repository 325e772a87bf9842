//! What a plan was made from, in one digest: whether the record still says the same after a question waited for
//! its answer.

use bundle_format::digest::{Sha384, Sha384Hasher};

use super::{State, runs, sql};
use crate::backup;
use crate::error::Result;

/// All that a plan may rest on, one text for each row.
const ROWS: &[&str] = &[
    "SELECT version || ' ' || sha384 FROM trust_roots ORDER BY version",
    "SELECT product || ' ' || sequence || ' ' || epoch FROM floors ORDER BY product",
    "SELECT id || ' ' || state || ' ' || kept || ' ' || revoked FROM generations ORDER BY id",
    "SELECT generation || ' ' || claim || ' ' || volume FROM volumes ORDER BY generation, claim",
    "SELECT id || ' ' || phase FROM runs ORDER BY id",
    "SELECT run || ' ' || ordinal || ' ' || state FROM run_steps ORDER BY run, ordinal",
];

impl State {
    /// Digest of the record without what backups and the machine's watch write while they change nothing.
    pub fn mark(&self) -> Result<Sha384> {
        let what = sql("read the record");
        let mut hasher = Sha384Hasher::default();
        let mut take = |query: &str, values: &[&str]| -> rusqlite::Result<()> {
            let mut statement = self.db.prepare(query)?;
            let rows = statement.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(0))?;
            for row in rows {
                hasher.update(row?.as_bytes());
                hasher.update(b"\n");
            }
            hasher.update(b"\n");
            Ok(())
        };
        ROWS.iter().try_for_each(|query| take(query, &[])).map_err(&what)?;
        let settings = "SELECT key || ' ' || value FROM settings WHERE key NOT IN (?1, ?2) ORDER BY key";
        take(settings, &[backup::HELD, runs::TRIED]).map_err(&what)?;
        Ok(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_plan_rests_on_counts() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::open(&folder.path().join("state.db")).unwrap();
        let before = state.mark().unwrap();
        state.set_setting(backup::HELD, "pod").unwrap();
        state.count_try(1, "boot").unwrap();
        assert_eq!(state.mark().unwrap(), before);
        let mut marks = vec![before];
        state.set_setting("keep-generations", "3").unwrap();
        marks.push(state.mark().unwrap());
        state.put_root(b"root");
        marks.push(state.mark().unwrap());
        let generation = "INSERT INTO generations (product, release, sequence, marking, manifest, manifest_sha384, state, begun_at, changed_at)
                          VALUES ('p', '1', 1, 'U', x'', 's', 'staged', 't', 't')";
        for change in [
            generation,
            "UPDATE generations SET state = 'active'",
            "UPDATE generations SET kept = 1",
            "INSERT INTO floors VALUES ('p', 1, 't', 0)",
            "INSERT INTO volumes VALUES (1, 'c', 'v')",
            "INSERT INTO runs VALUES (1, 'a', 'p', 1, NULL, '', '', 'staging', 1, '', 't', 't', '')",
            "UPDATE runs SET phase = 'trial'",
            "INSERT INTO run_steps VALUES (1, 0, '', 'planned', '', NULL)",
        ] {
            state.db.execute(change, []).unwrap();
            let mark = state.mark().unwrap();
            assert!(!marks.contains(&mark), "{change}");
            marks.push(mark);
        }
    }
}
