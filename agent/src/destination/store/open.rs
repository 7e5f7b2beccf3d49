//! From an address and this host's options to a store. Every client is built here, and none of them retries by itself.

use std::sync::Arc;

use inshore_config::{AzureOptions, Encryption, GcsOptions, HttpUrl, Login, RequestChecksum, S3Options, StoreOptions};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder, split_sas};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::local::LocalFileSystem;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{MultipartId, ObjectStore, PutPayload, PutResult, RetryConfig};
use url::Url;

use super::credentials;
use super::remains::Remains;
use super::wire::{Connector, SetupError, resolve};
use super::{Error, Store};

/// What the options of a store come to.
enum Built {
    S3(AmazonS3, Remains),
    Gcs(GoogleCloudStorage, Remains),
    Azure(MicrosoftAzure),
}

/// Why a store could not be opened before anything was asked of it.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error("prepare the client")]
    Client(#[from] object_store::Error),
    #[error("prepare the client")]
    Http(#[from] reqwest::Error),
}

impl Store {
    /// Opens the store of a destination's address, with what this host's policy says about it.
    pub(crate) fn open_with(root: &Url, options: &StoreOptions, fsync: bool) -> Result<Store, Error> {
        let bad = |reason| Error::BadLocation { uri: root.to_string(), reason };
        let Some(login) = &options.store else { return Store::open(root, fsync) };
        let container = match root.scheme() {
            "abfss" => root.username(),
            _ => root.host_str().unwrap_or_default(),
        };
        if container.is_empty() {
            return Err(bad("it names no bucket or container"));
        }
        let prefix = Path::from_url_path(root.path()).map_err(|_| bad("its path is none of a store"))?;
        let account = root.host_str().and_then(|host| host.split('.').next()).unwrap_or_default();
        let built = Connector::new(&options.network).map_err(OpenError::from).and_then(|connector| match login {
            Login::S3(options) => s3(options, container, &connector),
            Login::Gcs(options) => gcs(options, container, &connector),
            Login::Azure(options) => {
                azure(options, options.account.as_deref().unwrap_or(account), container, &connector)
            }
        });
        let built = built.map_err(|source| Error::BadOptions { uri: root.to_string(), source: source.into() })?;
        Ok(match built {
            Built::S3(store, remains) => Store::below(store, &prefix, Some(remains)),
            Built::Gcs(store, remains) => Store::below(store, &prefix, Some(remains)),
            Built::Azure(store) => Store::below(store, &prefix, None),
        })
    }

    /// Opens a local folder. It must exist: a vanished mount must not be made anew.
    pub(crate) fn open(root: &Url, fsync: bool) -> Result<Store, Error> {
        let bad = |reason| Error::BadLocation { uri: root.to_string(), reason };
        if root.scheme() != "file" {
            return Err(bad("this host's policy has no table that says how to reach it"));
        }
        let folder = root.to_file_path().map_err(|()| bad("not an absolute path on this host"))?;
        if !folder.is_dir() {
            return Err(Error::Vanished { path: folder.display().to_string() });
        }
        let local = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|source| Error::Unreachable { path: folder.display().to_string(), source })?;
        Ok(Store {
            inner: Arc::new(local.with_fsync(fsync)),
            parts: None,
            remains: None,
            local_root: Some(folder),
            fsync,
            #[cfg(test)]
            synced: Arc::default(),
        })
    }

    fn below<S: ObjectStore + MultipartStore>(store: S, prefix: &Path, remains: Option<Remains>) -> Store {
        let store = Arc::new(store);
        let parts = Below { inner: Arc::clone(&store), prefix: prefix.clone() };
        Store {
            inner: Arc::new(PrefixStore::new(store as Arc<dyn ObjectStore>, prefix.clone())),
            parts: Some(Arc::new(parts)),
            remains: remains.map(|remains| Arc::new(remains.below(prefix.clone()))),
            local_root: None,
            fsync: true,
            #[cfg(test)]
            synced: Arc::default(),
        }
    }
}

fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn is_plain(endpoint: Option<&HttpUrl>) -> bool {
    endpoint.is_some_and(|endpoint| endpoint.as_str().starts_with("http://"))
}

fn s3(options: &S3Options, bucket: &str, connector: &Connector) -> Result<Built, OpenError> {
    let region = options.region.as_deref().unwrap_or("us-east-1");
    let endpoint = bucket_endpoint(options, region, bucket);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(region)
        .with_virtual_hosted_style_request(true)
        .with_endpoint(endpoint.clone())
        .with_allow_http(is_plain(options.endpoint.as_ref()))
        .with_retry(no_retries())
        .with_disable_bulk_delete(true)
        .with_http_connector(connector.clone());
    builder = match options.server_side_encryption {
        None => builder,
        Some(Encryption::Aes256) => builder.with_config("aws_server_side_encryption".parse()?, "AES256"),
        Some(Encryption::Kms) => match &options.kms_key_id {
            Some(key) => builder.with_sse_kms_encryption(key),
            None => builder.with_config("aws_server_side_encryption".parse()?, "aws:kms"),
        },
    };
    builder = match options.request_checksum {
        None => builder,
        Some(RequestChecksum::Sha256) => builder.with_checksum_algorithm(Checksum::SHA256),
        Some(RequestChecksum::Crc64nvme) => builder.with_checksum_algorithm(Checksum::CRC64NVME),
    };
    if let (Some(file), Some(role)) = (&options.web_identity_token_file, &options.role_arn) {
        builder = builder
            .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, file.as_path().display().to_string())
            .with_config(AmazonS3ConfigKey::RoleArn, role);
        if let Some(endpoint) = &options.sts_endpoint {
            builder = builder.with_config(AmazonS3ConfigKey::StsEndpoint, endpoint.as_str());
        }
    }
    if let Some(endpoint) = &options.metadata_endpoint {
        builder = builder.with_metadata_endpoint(endpoint.as_str());
    }
    if let Some(kept) = credentials::kept(options) {
        builder = builder.with_credentials(kept);
    }
    let mut store = builder.clone().build()?;
    let sts = connector.client(is_plain(options.sts_endpoint.as_ref()))?;
    if let Some(role) = credentials::role(options, Arc::clone(store.credentials()), sts) {
        store = builder.with_credentials(role).build()?;
    }
    let client = connector.client(is_plain(options.endpoint.as_ref()))?;
    let remains = Remains::s3(client, &endpoint, region, Arc::clone(store.credentials()));
    Ok(Built::S3(store, remains))
}

/// The address of the bucket itself. A name with dots fits no certificate of the store, so it stands in the path.
fn bucket_endpoint(options: &S3Options, region: &str, bucket: &str) -> String {
    let endpoint = options.endpoint.as_ref().map(|endpoint| endpoint.as_str().to_owned());
    let in_path = options.path_style.unwrap_or(endpoint.is_some() || bucket.contains('.'));
    let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
    match endpoint.split_once("://") {
        Some((scheme, host)) if !in_path => format!("{scheme}://{bucket}.{host}"),
        _ => format!("{endpoint}/{bucket}"),
    }
}

fn gcs(options: &GcsOptions, bucket: &str, connector: &Connector) -> Result<Built, OpenError> {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_retry(no_retries())
        .with_client_options(object_store::ClientOptions::new().with_allow_http(is_plain(options.endpoint.as_ref())))
        .with_http_connector(connector.clone());
    if let Some(account) = &options.service_account {
        builder = builder.with_service_account_key(resolve("service_account", account)?.expose());
    }
    let endpoint = options.endpoint.as_ref().map_or("https://storage.googleapis.com", HttpUrl::as_str);
    builder = builder.with_base_url(endpoint);
    let store = builder.build()?;
    let client = connector.client(is_plain(options.endpoint.as_ref()))?;
    let remains = Remains::gcs(client, &format!("{endpoint}/{bucket}"), Arc::clone(store.credentials()));
    Ok(Built::Gcs(store, remains))
}

fn azure(options: &AzureOptions, account: &str, container: &str, connector: &Connector) -> Result<Built, OpenError> {
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(account)
        .with_container_name(container)
        .with_retry(no_retries())
        .with_allow_http(is_plain(options.endpoint.as_ref()))
        .with_http_connector(connector.clone());
    if let Some(key) = &options.account_key {
        builder = builder.with_access_key(resolve("account_key", key)?.expose());
    }
    if let Some(token) = &options.sas_token {
        let pairs = split_sas(resolve("sas_token", token)?.expose())?;
        builder = builder.with_sas_authorization(pairs);
    }
    if let Some(file) = &options.workload_identity_token_file {
        builder = builder.with_federated_token_file(file.as_path().display().to_string());
    }
    let texts = [
        (AzureConfigKey::ClientId, options.client_id.as_deref()),
        (AzureConfigKey::AuthorityId, options.tenant_id.as_deref()),
        (AzureConfigKey::AuthorityHost, options.authority_host.as_ref().map(HttpUrl::as_str)),
        (AzureConfigKey::MsiEndpoint, options.metadata_endpoint.as_ref().map(HttpUrl::as_str)),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            builder = builder.with_config(key, text);
        }
    }
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint.as_str().to_owned());
    }
    Ok(Built::Azure(builder.build()?))
}

/// Parts of objects below a prefix.
struct Below<S> {
    inner: Arc<S>,
    prefix: Path,
}

impl<S> Below<S> {
    fn full(&self, path: &Path) -> Path {
        self.prefix.parts().chain(path.parts()).collect()
    }
}

#[async_trait::async_trait]
impl<S: MultipartStore> MultipartStore for Below<S> {
    async fn create_multipart(&self, path: &Path) -> object_store::Result<MultipartId> {
        self.inner.create_multipart(&self.full(path)).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        index: usize,
        data: PutPayload,
    ) -> object_store::Result<PartId> {
        self.inner.put_part(&self.full(path), id, index, data).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> object_store::Result<PutResult> {
        self.inner.complete_multipart(&self.full(path), id, parts).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> object_store::Result<()> {
        self.inner.abort_multipart(&self.full(path), id).await
    }
}
