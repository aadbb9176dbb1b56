//! The client for Azure Blob Storage.
//!
//! Objects are block blobs. An upload in parts is a list of blocks, which becomes the blob when the list is put, under a condition;
//! blocks that never do so are invisible and are removed by the service after a week.

use super::http::{Connector, Kind, Signer};
use super::raw::{self, answered};
use super::through::{Remover, Through};
use super::{Settings, client_options, no_retries};
use crate::config::AzureConfig;
use crate::counters::Meter;
use crate::{Result, StoreError};
use async_trait::async_trait;
use object_store::azure::{
    AzureAuthorizer, AzureConfigKey, AzureCredential, MicrosoftAzure, MicrosoftAzureBuilder,
};
use object_store::client::{HttpClient, HttpConnector, HttpRequest};
use std::sync::Arc;

fn unusable(error: &object_store::Error) -> StoreError {
    StoreError::Setting { setting: "azure", reason: error.to_string() }
}

/// Turns settings into a service. What is not set comes from the environment (`AZURE_STORAGE_…`), and credentials at last from the
/// machine's managed identity.
pub(super) fn service(config: &AzureConfig, meter: &Arc<Meter>) -> Result<Settings> {
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_client_options(client_options(config.allow_http))
        .with_container_name(&config.container)
        .with_retry(no_retries());
    if let Some(account) = &config.account {
        builder = builder.with_account(account);
    }
    if let Some(key) = config.access_key()? {
        builder = builder.with_access_key(key.reveal());
    }
    if let Some(token) = config.sas_token()? {
        builder = builder.with_config(AzureConfigKey::SasKey, token.reveal().trim_start_matches('?'));
    }
    if let Some(endpoint) = config.service_url()? {
        builder = builder.with_endpoint(endpoint);
    }
    let set = |key: AzureConfigKey| builder.get_config_value(&key);
    let Some(account) = set(AzureConfigKey::AccountName) else {
        let reason = "it is not set; AZURE_STORAGE_ACCOUNT is another place for it".to_owned();
        return Err(StoreError::Setting { setting: "account", reason });
    };
    let endpoint = set(AzureConfigKey::Endpoint);
    let connector = Connector::new(Kind::Azure, meter, endpoint.as_deref());
    let base = endpoint.unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
    let client = builder.with_http_connector(connector.clone()).build().map_err(|error| unusable(&error))?;
    let signing = Signing { client: Arc::new(client), account };
    let http = connector.connect(&client_options(config.allow_http)).map_err(|error| unusable(&error))?;
    let _ = connector.signer.set(Box::new(signing.clone()));
    let remover = BlobRemover {
        signing: signing.clone(),
        http,
        container: format!("{}/{}", base.trim_end_matches('/'), config.container),
    };
    let service = Through { kind: Kind::Azure, client: signing.client, remover: Some(Box::new(remover)) };
    Ok(Settings { service: Arc::new(service), place: config.describe() })
}

#[derive(Debug, Clone)]
struct Signing {
    client: Arc<MicrosoftAzure>,
    account: String,
}

/// An account's key signs the conditions too. Tokens sign nothing, and a request that has one keeps it.
#[async_trait]
impl Signer for Signing {
    async fn sign(&self, request: &mut HttpRequest) -> object_store::Result<()> {
        let credential = self.client.credentials().get_credential().await?;
        if matches!(*credential, AzureCredential::AccessKey(_)) {
            request.headers_mut().remove("authorization");
            AzureAuthorizer::new(&credential, &self.account).try_authorize(request)?;
        }
        Ok(())
    }
}

/// Removes one blob with a request of its own.
#[derive(Debug)]
struct BlobRemover {
    signing: Signing,
    http: HttpClient,
    /// URL of the container.
    container: String,
}

#[async_trait]
impl Remover for BlobRemover {
    async fn remove(&self, key: &str) -> object_store::Result<()> {
        // An ObjectPath has no character that a URL would encode; a prefix may.
        let url = format!("{}/{}", self.container, raw::encoded(key, "/"));
        let mut request = raw::request("DELETE", &url, &[("content-length", "0")], bytes::Bytes::new())?;
        let credential = self.signing.client.credentials().get_credential().await?;
        AzureAuthorizer::new(&credential, &self.signing.account).try_authorize(&mut request)?;
        answered(self.http.execute(request).await).await.map(drop)
    }
}
