//! Whether the slot still has what the stream needs.

use tidegate_model::Problem;
use tidegate_source_postgres::{History, history, publication, slot};

use super::super::upstream::stored_history;
use super::super::{Before, NoCopy, Wishes};
use super::Postgres;
use crate::config::Migration;

impl Postgres<'_> {
    pub(super) async fn verify_before(&self, before: &Before, wishes: &Wishes) -> Result<(), Problem> {
        let (from, name) = (self.0.from(), &self.0.migration.name);
        match (before.position(), stored_history::<History>(before.history())?) {
            (Some(at), Some(history)) if !wishes.recreate_slot => {
                slot::verify_resume(&from.settings, name, &history, &at).await?;
                self.verify_published(before, wishes, &history).await
            }
            _ if wishes.recreate_slot => slot::replaceable(&from.session, name, &name.object_name()).await.map(drop),
            (None, stored) => match &wishes.no_copy {
                Some(NoCopy::At(at)) => {
                    let object = name.object_name();
                    let history = history::identify(&from.settings, name, &object, &object).await?;
                    slot::verify_resume(&from.settings, name, &history, at).await.map(drop)
                }
                _ => {
                    let found = slot::claimable(&from.session, name, &name.object_name()).await?;
                    match (stored, found) {
                        (None, Some(_)) => Err(slot_of_another(self.0.migration)),
                        _ => Ok(()),
                    }
                }
            },
            (Some(_), _) => slot::claimable(&from.session, name, &name.object_name()).await.map(drop),
        }
    }

    /// Refuses a publication that may have left out changes of a table that is not to be copied again.
    async fn verify_published(&self, before: &Before, wishes: &Wishes, history: &History) -> Result<(), Problem> {
        let mut tables = before.carried();
        tables.retain(|(_, name)| !wishes.recopy.contains(name));
        let (session, publication) = (&self.0.from().session, &history.publication);
        let compared = publication::compare(session, publication, history.published.as_ref(), &tables).await?;
        if compared.gaps.is_empty() {
            return Ok(());
        }
        Err(publication::changed(&self.0.migration.name, publication, &compared.gaps))
    }
}

fn slot_of_another(migration: &Migration) -> Problem {
    let (name, slot) = (&migration.name, migration.name.object_name());
    Problem::definite(
        "MI002",
        format!("the source has a replication slot \"{slot}\" that this target knows nothing of"),
        "it belongs to a migration of that name to another target, or the target's state was dropped",
        format!(
            "give another --name; or, if nobody needs the slot any more, take it and copy everything: \
             tidegate migrate --name {name} --recreate-slot"
        ),
    )
}
