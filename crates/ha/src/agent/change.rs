//! What an operator writes into the cluster's state; the agents do the rest.

use super::store::{STATE_KEY, read_state};
use crate::{
    ClusterState, HaError,
    dcs::{Dcs, Keep, Swapped, Write},
};

/// How often a change is tried again when somebody else changed the state meanwhile.
const TRIES: usize = 10;

/// Reads the state, changes it and writes it back, if nobody else did meanwhile. `change` is called again then; it may refuse.
///
/// # Errors
/// [`HaError::Store`]; [`HaError::Refused`] where there is no cluster, and what `change` says.
pub fn change_state(
    dcs: &dyn Dcs,
    mut change: impl FnMut(&ClusterState) -> Result<ClusterState, HaError>,
) -> Result<ClusterState, HaError> {
    for _ in 0..TRIES {
        let (snapshot, state) = read_state(dcs)?;
        let state = state.ok_or_else(|| HaError::Refused {
            why: "etcd holds no cluster of this name".to_owned(),
            hint: "does an agent with `founding = true` run? Is cluster.name the same everywhere?".to_owned(),
        })?;
        let next = change(&state)?;
        let value = serde_json::to_vec(&next).map_err(|error| HaError::NotSeen {
            operation: "write the cluster's state",
            why: error.to_string(),
        })?;
        let write = Write {
            key: STATE_KEY.to_owned(),
            before: snapshot.before(STATE_KEY),
            value: Some(value),
            keep: Keep::Always,
        };
        if dcs.swap(&[write]).map_err(HaError::store("change the cluster's state"))? == Swapped::Done {
            return Ok(next);
        }
    }
    Err(HaError::NotSeen {
        operation: "change the cluster's state",
        why: "others change it all the time".to_owned(),
    })
}
