//! What only rises: the floors of sequence, security epoch and time, and the one way in which a trust
//! root lowers the first two (spec 4.5).

use std::collections::BTreeMap;

use bundle_format::root::{RootEnvelope, SequenceReset, TrustRoot};
use bundle_format::timestamp::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{State, sql};
use crate::audit::log::Log;
use crate::error::{ErrorKind, Result};

impl State {
    /// Records a proven root and, in the same transaction, lowers the floors that it resets (spec 4.5);
    /// what was lowered, in words. Recording it again changes nothing.
    pub fn record_root(&mut self, root: &TrustRoot, envelope: &[u8], now: &Timestamp) -> Result<Vec<String>> {
        let what = sql("record a trust root");
        let (version, sha384) = (i64::try_from(root.version()).unwrap_or(i64::MAX), root.fingerprint().to_string());
        let transaction = self.db.transaction().map_err(&what)?;
        let insert = "INSERT INTO trust_roots VALUES (?1, ?2, ?3, ?4) ON CONFLICT (version) DO NOTHING";
        let values = params![version, envelope, sha384, now.as_str()];
        let mut lowered = Vec::new();
        if transaction.execute(insert, values).map_err(&what)? == 1 {
            for reset in root.sequence_resets() {
                lowered.extend(lower(&transaction, reset, now).map_err(&what)?);
            }
        }
        transaction.commit().map_err(&what)?;
        Ok(lowered)
    }

    /// Anti-rollback floor of a product; 0 before its first installation.
    pub fn floor(&self, product: &str) -> Result<u64> {
        let query = "SELECT sequence FROM floors WHERE product = ?1";
        let floor: Option<i64> =
            self.db.query_row(query, [product], |row| row.get(0)).optional().map_err(sql("read a floor"))?;
        floor.map_or(Ok(0), |floor| sound_floor(product, floor))
    }

    /// The anti-rollback floors of all products.
    pub fn floors(&self) -> Result<BTreeMap<String, u64>> {
        let what = sql("read the floors");
        let mut statement = self.db.prepare("SELECT product, sequence FROM floors").map_err(&what)?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)));
        let rows: Vec<_> = rows.map_err(&what)?.collect::<rusqlite::Result<_>>().map_err(&what)?;
        let sound =
            |(product, floor): (String, i64)| sound_floor(&product, floor).map(|floor| (product.clone(), floor));
        rows.into_iter().map(sound).collect()
    }

    /// Whether a trust root reset the sequence of a generation away (spec 4.5).
    pub fn is_revoked(&self, id: i64) -> Result<bool> {
        let query = "SELECT revoked FROM generations WHERE id = ?1";
        self.db.query_row(query, [id], |row| row.get(0)).map_err(sql("read a generation"))
    }

    /// The newest time on record, here and in the audit log.
    pub fn time_floor(&self) -> Result<Option<Timestamp>> {
        let query =
            "SELECT max(t) FROM (SELECT max(at) t FROM history UNION ALL SELECT max(changed_at) FROM generations
                     UNION ALL SELECT max(accepted_at) FROM trust_roots)";
        let text: Option<String> =
            self.db.query_row(query, [], |row| row.get(0)).map_err(sql("read the time floor"))?;
        let here = text.map(|text| Timestamp::parse(&text)).transpose()?;
        let logged = Log::look(&self.home.audit())?.map(|log| log.newest_time()).transpose()?.flatten();
        Ok(here.max(logged))
    }

    /// The newest signed time that was accepted here: of the newest trust root, and of releases that were
    /// committed.
    pub fn newest_signed_time(&self) -> Result<Option<Timestamp>> {
        let query = "SELECT max(created) FROM generations WHERE created <> '' AND revoked = 0 AND state NOT IN ('staged', 'failed')";
        let text: Option<String> =
            self.db.query_row(query, [], |row| row.get(0)).map_err(sql("read the signed times"))?;
        let created = text.map(|text| Timestamp::parse(&text)).transpose()?;
        let root = self.latest_root()?.map(|stored| RootEnvelope::parse(&stored.envelope)).transpose()?;
        Ok(created.max(root.map(|root| root.claimed().issued().clone())))
    }
}

fn sound_floor(product: &str, floor: i64) -> Result<u64> {
    let damaged = || ErrorKind::Unexpected {
        what: format!("floor of product {product}"),
        expected: "a positive number".into(),
        found: floor.to_string(),
    };
    Ok(u64::try_from(floor).map_err(|_| damaged())?)
}

/// Lowers the floors of one product, and marks what lies above as revoked: whoever signed that is not
/// believed any more. Its signed time counts no longer, and nobody goes back to it.
fn lower(db: &Connection, reset: &SequenceReset, now: &Timestamp) -> rusqlite::Result<Option<String>> {
    let sequence = i64::try_from(reset.sequence).unwrap_or(i64::MAX);
    let epoch = reset.security_epoch.map_or(i64::MAX, |epoch| i64::try_from(epoch).unwrap_or(i64::MAX));
    let revoke = "UPDATE generations SET revoked = 1 WHERE product = ?1 AND sequence > ?2";
    db.execute(revoke, params![reset.product, sequence])?;
    let query = "SELECT sequence, epoch FROM floors WHERE product = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let Some((before, epoch_before)) = db.query_row(query, [&reset.product], read).optional()? else { return Ok(None) };
    if before <= sequence && epoch_before <= epoch {
        return Ok(None);
    }
    let update =
        "UPDATE floors SET sequence = min(sequence, ?2), epoch = min(epoch, ?3), raised_at = ?4 WHERE product = ?1";
    db.execute(update, params![reset.product, sequence, epoch, now.as_str()])?;
    let (after, epoch_after) = (i64::min(before, sequence), i64::min(epoch_before, epoch));
    Ok(Some(format!(
        "floor of {} lowered from sequence {before} to {after}, security epoch from {epoch_before} to {epoch_after}",
        reset.product
    )))
}
