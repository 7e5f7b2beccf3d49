//! Who we are to an S3 store, beyond what its client knows: keys that are read again when they were changed, sections of a
//! shared credentials file, and roles that are taken on and renewed before they end. The other logins are the client's own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use inshore_config::{HeldSecret, S3Options};
use object_store::CredentialProvider;
use object_store::aws::{AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpError, HttpRequest, HttpRequestBody};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::wire::{Answered, resolve, xml};

/// Keys are read again after this long: a file that somebody renews is noticed within a sync.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// A role is taken on again so long before it ends.
const RENEWED_BEFORE: Duration = Duration::from_secs(5 * 60);
/// How long a role lasts; an hour is what every role allows.
const ROLE_SECONDS: u64 = 3600;
const SESSION_NAME: &str = "inshore";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
enum LoginError {
    #[error("read the credentials file {path}")]
    File { path: String, source: std::io::Error },
    #[error("find the profile {profile} in {path}: {missing}")]
    Profile { profile: String, path: String, missing: &'static str },
    #[error("take on the role {role}: the answer has no {missing}")]
    Role { role: String, missing: &'static str },
}

/// Where keys are kept.
#[derive(Debug)]
enum Kept {
    Keys { id: HeldSecret, secret: HeldSecret, token: Option<HeldSecret> },
    Profile { file: PathBuf, name: String },
}

/// Keys, with the time from which on they are looked up again.
#[derive(Debug)]
struct Renewed<K> {
    kept: K,
    known: Mutex<Option<(Arc<AwsCredential>, Instant)>>,
}

/// A role that is taken on with somebody's keys.
#[derive(Debug)]
struct Role {
    base: AwsCredentialProvider,
    client: HttpClient,
    endpoint: String,
    region: String,
    arn: String,
    external_id: Option<String>,
    session_name: String,
}

/// The keys that options name; `None` where the client has its own way to find some.
pub(super) fn kept(options: &S3Options) -> Option<AwsCredentialProvider> {
    let kept = match (&options.access_key_id, &options.secret_access_key, &options.profile, &options.profile_file) {
        (Some(id), Some(secret), ..) => {
            Kept::Keys { id: id.clone(), secret: secret.clone(), token: options.session_token.clone() }
        }
        (_, _, Some(name), Some(file)) => Kept::Profile { file: file.as_path().to_owned(), name: name.clone() },
        _ => return None,
    };
    Some(Arc::new(Renewed { kept, known: Mutex::default() }))
}

/// The role that options name, taken on with `base`.
pub(super) fn role(
    options: &S3Options,
    base: AwsCredentialProvider,
    client: HttpClient,
) -> Option<AwsCredentialProvider> {
    let arn = options.assume_role_arn.clone()?;
    let region = options.region.clone().unwrap_or_else(|| "us-east-1".to_owned());
    let endpoint = options.sts_endpoint.as_ref().map(|url| url.as_str().to_owned());
    let session_name = options.assume_role_session_name.clone();
    let role = Role {
        base,
        client,
        endpoint: endpoint.unwrap_or_else(|| format!("https://sts.{region}.amazonaws.com")),
        region,
        arn,
        external_id: options.assume_role_external_id.clone(),
        session_name: session_name.unwrap_or_else(|| SESSION_NAME.to_owned()),
    };
    Some(Arc::new(Renewed { kept: role, known: Mutex::default() }))
}

/// Something that knows keys for a while.
trait Source: std::fmt::Debug + Send + Sync + 'static {
    fn fetch(&self) -> impl Future<Output = Result<(AwsCredential, Duration), Failure>> + Send;
}

impl Source for Kept {
    async fn fetch(&self) -> Result<(AwsCredential, Duration), Failure> {
        Ok((self.read()?, READ_AGAIN_AFTER))
    }
}

impl Kept {
    fn read(&self) -> Result<AwsCredential, Failure> {
        let Kept::Keys { id, secret, token } = self else { return self.section() };
        let token = token.as_ref().map(|token| resolve("session_token", token)).transpose()?;
        Ok(AwsCredential {
            key_id: resolve("access_key_id", id)?.expose().to_owned(),
            secret_key: resolve("secret_access_key", secret)?.expose().to_owned(),
            token: token.map(|token| token.expose().to_owned()),
        })
    }

    fn section(&self) -> Result<AwsCredential, Failure> {
        let Kept::Profile { file, name } = self else { return Err("no profile".into()) };
        let path = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|source| LoginError::File { path: path.clone(), source })?;
        let missing = |missing| LoginError::Profile { profile: name.clone(), path: path.clone(), missing };
        let section = section(&text, name).ok_or_else(|| missing("there is no such section"))?;
        let value = |key: &str| section.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        Ok(AwsCredential {
            key_id: value("aws_access_key_id").ok_or_else(|| missing("it has no aws_access_key_id"))?,
            secret_key: value("aws_secret_access_key").ok_or_else(|| missing("it has no aws_secret_access_key"))?,
            token: value("aws_session_token"),
        })
    }
}

/// The keys and values of `[name]` or `[profile name]`.
fn section(text: &str, name: &str) -> Option<Vec<(String, String)>> {
    let mut lines = text.lines().map(str::trim);
    lines.by_ref().find(|line| {
        let inner = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map(str::trim);
        inner.is_some_and(|inner| inner.strip_prefix("profile ").map_or(inner, str::trim) == name)
    })?;
    let pairs = lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.starts_with(['#', ';']));
    let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
    Some(pairs.filter_map(pair).collect())
}

impl Source for Role {
    async fn fetch(&self) -> Result<(AwsCredential, Duration), Failure> {
        let base = self.base.get_credential().await?;
        let mut url = url::Url::parse(&self.endpoint)?;
        url.query_pairs_mut()
            .append_pair("Action", "AssumeRole")
            .append_pair("DurationSeconds", &ROLE_SECONDS.to_string())
            .append_pair("RoleArn", &self.arn)
            .append_pair("RoleSessionName", &self.session_name)
            .append_pair("Version", "2011-06-15");
        if let Some(external_id) = &self.external_id {
            url.query_pairs_mut().append_pair("ExternalId", external_id);
        }
        let mut request: HttpRequest = http::Request::get(url.as_str()).body(HttpRequestBody::empty())?;
        AwsAuthorizer::new(&base, "sts", &self.region).try_authorize(&mut request, None)?;
        let answer = self.client.execute(request).await?.into_body().bytes().await?;
        let text = String::from_utf8_lossy(&answer);
        let value = |missing| xml(&text, missing).ok_or_else(|| LoginError::Role { role: self.arn.clone(), missing });
        let credential = AwsCredential {
            key_id: value("AccessKeyId")?,
            secret_key: value("SecretAccessKey")?,
            token: Some(value("SessionToken")?),
        };
        let until = chrono::DateTime::parse_from_rfc3339(&value("Expiration")?)?;
        let left = (until.to_utc() - chrono::Utc::now()).to_std().unwrap_or_default();
        Ok((credential, left.saturating_sub(RENEWED_BEFORE)))
    }
}

#[async_trait::async_trait]
impl<K: Source> CredentialProvider for Renewed<K> {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut known = self.known.lock().await;
        match &*known {
            Some((credential, until)) if Instant::now() < *until => Ok(Arc::clone(credential)),
            _ => {
                let (credential, lasts) = self.kept.fetch().await.map_err(failed)?;
                let credential = Arc::new(credential);
                *known = Some((Arc::clone(&credential), Instant::now() + lasts));
                Ok(credential)
            }
        }
    }
}

/// No answer is no refusal: it is asked again as any request is.
fn failed(source: Failure) -> object_store::Error {
    let is_refusal = || std::error::Error::source(&*source).is_some_and(|cause| cause.is::<Answered>());
    match source.is::<HttpError>() && !is_refusal() {
        true => object_store::Error::Generic { store: "credentials", source },
        false => object_store::Error::Unauthenticated { path: "credentials".to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::section;

    #[test]
    fn a_section_is_found_by_its_name() {
        let text =
            "[default]\naws_access_key_id = a\n; note\n[profile lake]\n# note\naws_access_key_id=b\n x = y=z \n[last]";
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(section(text, "default"), Some(vec![pair("aws_access_key_id", "a")]));
        assert_eq!(section(text, "lake"), Some(vec![pair("aws_access_key_id", "b"), pair("x", "y=z")]));
        assert_eq!((section(text, "last"), section(text, "no")), (Some(Vec::new()), None));
    }
}
