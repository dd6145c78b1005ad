//! The hub's transfer log over HTTPS: checkpoint, tiles, the agent's own entries, and the
//! cosignature that goes back. Nothing that comes from here is believed before it is verified.

use phusa_protocol::checkpoint::LogKey;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{DatasetId, Epoch, Seq};
use phusa_protocol::keys::PublicKey;
use phusa_protocol::leaf::Placed;
use phusa_protocol::tile::Tile;
use reqwest::StatusCode;

use super::https::{Hub, refusal};

impl Hub {
    /// The key that signs receipts.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.hub_key
    }

    /// The hub's word for its log's key; `None` from a hub without a log.
    ///
    /// # Errors
    /// The fault the hub named, or why it could not be asked.
    pub async fn log_key(&self) -> Result<Option<LogKey>, Fault> {
        let what = "cannot ask the hub for its log's key";
        let Some(answer) = self.look("log/key", what).await? else { return Ok(None) };
        let key = serde_json::from_slice(&answer);
        key.map(Some).map_err(|error| Fault::because(Code::ProtocolVersion, what, error))
    }

    /// The newest checkpoint; `None` before the first.
    ///
    /// # Errors
    /// The fault the hub named, or why it could not be asked.
    pub async fn log_checkpoint(&self) -> Result<Option<String>, Fault> {
        let answer = self.look("log/checkpoint", "cannot ask the hub for a checkpoint").await?;
        Ok(answer.map(|note| String::from_utf8_lossy(&note).into_owned()))
    }

    /// One tile; `None` when the hub does not have it.
    ///
    /// # Errors
    /// The fault the hub named, or why it could not be asked.
    pub async fn log_tile(&self, tile: Tile, width: u64) -> Result<Option<Vec<u8>>, Fault> {
        let path = format!("log/{}", tile.path(width));
        self.look(&path, "cannot ask the hub for a part of its log").await
    }

    /// This agent's own batches of one epoch in the published log, from `first` on.
    ///
    /// # Errors
    /// The fault the hub named, or why it could not be asked.
    pub async fn log_entries(
        &self,
        dataset: &DatasetId,
        epoch: Epoch,
        first: Seq,
    ) -> Result<Vec<Placed>, Fault> {
        let what = "cannot ask the hub for entries of its log";
        let path = format!("log/entries/{dataset}/{}/{}", epoch.0, first.0);
        let answer = self.look(&path, what).await?.unwrap_or_else(|| b"[]".to_vec());
        serde_json::from_slice(&answer)
            .map_err(|error| Fault::because(Code::ProtocolVersion, what, error))
    }

    /// Hands in a cosigned checkpoint; what comes back is the newest that enough witnesses signed,
    /// if there is one.
    ///
    /// # Errors
    /// The fault the hub named, or why it could not be asked.
    pub async fn log_cosign(&self, note: String) -> Result<Option<String>, Fault> {
        let what = "cannot hand in a cosignature";
        let url = self.at("log/cosignature", what)?;
        let sent = self.client().post(url).body(note).send().await;
        let (status, answer) = self.read(sent, what).await?;
        let note = || String::from_utf8_lossy(&answer).into_owned();
        match status {
            StatusCode::OK => Ok(Some(note())),
            StatusCode::NO_CONTENT => Ok(None),
            status => {
                let refusal = refusal(status, &answer);
                let what = format!("{what}: the hub answered: {}", refusal.what);
                Err(Fault::new(refusal.code, what))
            }
        }
    }

    pub(super) async fn look(&self, path: &str, what: &str) -> Result<Option<Vec<u8>>, Fault> {
        let (status, answer) =
            self.read(self.client().get(self.at(path, what)?).send().await, what).await?;
        match status {
            StatusCode::OK => Ok(Some(answer)),
            StatusCode::NOT_FOUND | StatusCode::NO_CONTENT => Ok(None),
            status => {
                let refusal = refusal(status, &answer);
                Err(Fault::new(refusal.code, format!("{what}: the hub answered: {}", refusal.what)))
            }
        }
    }

    fn at(&self, path: &str, what: &str) -> Result<reqwest::Url, Fault> {
        self.base.join(path).map_err(|error| Fault::because(Code::Bug, what, error))
    }
}
