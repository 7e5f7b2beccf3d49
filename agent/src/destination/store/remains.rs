//! Uploads in parts that nobody finished, as a kill leaves them. They are no objects: no listing shows them, and they cost
//! until they are aborted. `object_store` cannot list them, so S3's own request (`?uploads`) is made here; Google's XML
//! interface has the same. Azure keeps no such thing: blocks that no blob takes up end by themselves after a week.

use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::gcp::GcpCredentialProvider;
use object_store::path::Path;
use url::Url;

use super::fault::classify;
use super::patience::{REQUEST_TIMEOUT, timed_for};
use super::wire::xml;
use super::{Error, Store};

/// Pages of 1,000 uploads that one collection looks at; more are left to the next.
const PAGES_MAX: usize = 20;

/// Who asks.
#[derive(Debug)]
enum Login {
    S3 { region: String, credentials: AwsCredentialProvider },
    Gcs { credentials: GcpCredentialProvider },
}

/// The list of a bucket's unfinished uploads.
#[derive(Debug)]
pub(super) struct Remains {
    client: HttpClient,
    bucket: String,
    login: Login,
    prefix: Path,
}

/// One of them.
#[derive(Debug, PartialEq, Eq)]
struct Remain {
    key: String,
    id: String,
}

impl Remains {
    pub(super) fn s3(client: HttpClient, bucket: &str, region: &str, credentials: AwsCredentialProvider) -> Remains {
        let login = Login::S3 { region: region.to_owned(), credentials };
        Remains { client, bucket: bucket.to_owned(), login, prefix: Path::default() }
    }

    pub(super) fn gcs(client: HttpClient, bucket: &str, credentials: GcpCredentialProvider) -> Remains {
        Remains { client, bucket: bucket.to_owned(), login: Login::Gcs { credentials }, prefix: Path::default() }
    }

    pub(super) fn below(self, prefix: Path) -> Remains {
        Remains { prefix, ..self }
    }

    /// One page below a key, with where the next one begins.
    async fn page(
        &self,
        folder: &str,
        after: Option<&(String, String)>,
    ) -> object_store::Result<(Vec<Remain>, Option<(String, String)>)> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
            store: "unfinished uploads",
            source,
        };
        let mut url = Url::parse(&self.bucket).map_err(|error| failed(error.into()))?;
        url.query_pairs_mut().append_pair("uploads", "").append_pair("prefix", folder);
        if let Some((key, id)) = after {
            url.query_pairs_mut().append_pair("key-marker", key).append_pair("upload-id-marker", id);
        }
        let mut request: HttpRequest =
            http::Request::get(url.as_str()).body(HttpRequestBody::empty()).map_err(|error| failed(error.into()))?;
        match &self.login {
            Login::S3 { region, credentials } => {
                let credential = credentials.get_credential().await?;
                AwsAuthorizer::new(&credential, "s3", region).try_authorize(&mut request, None)?;
            }
            Login::Gcs { credentials } => {
                let bearer = format!("Bearer {}", credentials.get_credential().await?.bearer);
                let mut value = http::HeaderValue::from_str(&bearer).map_err(|error| failed(error.into()))?;
                value.set_sensitive(true);
                request.headers_mut().insert(http::header::AUTHORIZATION, value);
            }
        }
        let answer = self.client.execute(request).await.map_err(|error| failed(error.into()))?;
        let body = answer.into_body().bytes().await.map_err(|error| failed(error.into()))?;
        Ok(read(&String::from_utf8_lossy(&body)))
    }
}

fn read(text: &str) -> (Vec<Remain>, Option<(String, String)>) {
    let uploads = text.split("<Upload>").skip(1);
    let remains = uploads.filter_map(|upload| Some(Remain { key: xml(upload, "Key")?, id: xml(upload, "UploadId")? }));
    let more = (xml(text, "IsTruncated").as_deref() == Some("true"))
        .then(|| Some((xml(text, "NextKeyMarker")?, xml(text, "NextUploadIdMarker")?)))
        .flatten();
    (remains.collect(), more)
}

impl Store {
    /// Whether interrupted uploads stay in the store until somebody aborts them.
    #[cfg(test)]
    pub(crate) fn keeps_unfinished(&self) -> bool {
        self.remains.is_some()
    }

    /// Aborts uploads below a folder whose name `is_free` gives free; answers how many. A store without such uploads has none.
    pub(crate) async fn abort_uploads(&self, folder: &Path, is_free: impl Fn(&str) -> bool) -> Result<u64, Error> {
        let (Some(remains), Some(parts)) = (&self.remains, &self.parts) else { return Ok(0) };
        let below: Path = remains.prefix.parts().chain(folder.parts()).collect();
        let (mut aborted, mut after) = (0, None);
        for _ in 0..PAGES_MAX {
            let prefix = format!("{below}/");
            let page = || timed_for(REQUEST_TIMEOUT, folder, remains.page(&prefix, after.as_ref()));
            let page = self.asked(page).await;
            let (found, more) = page.map_err(|source| classify(folder, source))?;
            for remain in found {
                let name = remain.key.rsplit('/').next().unwrap_or_default();
                let path = remain.key.strip_prefix(below.as_ref()).map(|rest| rest.trim_start_matches('/'));
                if let (true, Some(rest)) = (is_free(name), path) {
                    let path: Path = folder.parts().chain(Path::from(rest).parts()).collect();
                    let abort = || parts.abort_multipart(&path, &remain.id);
                    match self.asked(|| timed_for(REQUEST_TIMEOUT, &path, abort())).await {
                        Ok(()) | Err(object_store::Error::NotFound { .. }) => aborted += 1,
                        Err(source) => return Err(classify(&path, source)),
                    }
                }
            }
            after = more;
            if after.is_none() {
                break;
            }
        }
        Ok(aborted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_uploads_is_read() {
        let text = "<R><KeyMarker></KeyMarker><NextKeyMarker>k2</NextKeyMarker><NextUploadIdMarker>u2</NextUploadIdMarker>\
            <IsTruncated>true</IsTruncated><Upload><Key>a/b&amp;c</Key><UploadId>u1</UploadId></Upload>\
            <Upload><Key>k2</Key><UploadId>u2</UploadId></Upload></R>";
        let remain = |key: &str, id: &str| Remain { key: key.to_owned(), id: id.to_owned() };
        let (remains, more) = read(text);
        assert_eq!(remains, [remain("a/b&c", "u1"), remain("k2", "u2")]);
        assert_eq!(more, Some(("k2".to_owned(), "u2".to_owned())));
        assert_eq!(read("<R><IsTruncated>false</IsTruncated></R>"), (Vec::new(), None));
    }
}
