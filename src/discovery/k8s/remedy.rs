//! What to do about each trouble with an API server. The texts looked for are those that
//! `client` and this module's parent write.

use crate::config::K8sConfig;
use crate::discovery::DiscoveryError;

/// The remedy of one trouble.
pub(in crate::discovery) fn remedy(config: &K8sConfig, error: &DiscoveryError) -> String {
    let text = error.to_string();
    let has = |words: &str| text.contains(words);
    let K8sConfig { namespace, .. } = config;
    if has("missing the rights to") {
        let (verbs, resource) = if has("endpoints in the core group") {
            ("get,watch", "endpoints")
        } else {
            ("list,watch", "endpointslices.discovery.k8s.io")
        };
        format!(
            "bind this pod's service account to a Role that grants it: kubectl -n {namespace} \
             create role muster --verb={verbs} --resource={resource} (see deploy/k8s/rbac.yaml)"
        )
    } else if has("401 Unauthorized") {
        "is the service account's token mounted (automountServiceAccountToken), from this cluster, \
         and not expired?"
            .to_owned()
    } else if text.starts_with("token ") {
        "mount the service account's token, readable for the agent's user".to_owned()
    } else if text.starts_with("CA file ") {
        "mount the service account's ca.crt: the PEM certificate of the API server's CA".to_owned()
    } else if text.starts_with("kubeconfig ") {
        "mend the file that agent.discovery.k8s.kubeconfig names".to_owned()
    } else if has("does not resolve") {
        "is the host in cluster.k8s.apiserver right, and does this pod's DNS work?".to_owned()
    } else if has("certificate") {
        "give ca.crt the CA of the API server, and cluster.k8s.apiserver a host name that its \
         certificate is for"
            .to_owned()
    } else if has("404 Not Found") || has("is no URL") || has("not TLS") || has("speak HTTP") {
        "cluster.k8s.apiserver is to be the URL of the API server alone, as kubectl cluster-info \
         prints it"
            .to_owned()
    } else {
        "can this pod reach cluster.k8s.apiserver (network policies, firewalls), and is the API \
         server up?"
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AddressType;

    #[test]
    fn each_trouble_has_its_own_remedy() {
        let config = K8sConfig {
            apiserver: "https://k".into(),
            service_name: "emqx".into(),
            address_type: AddressType::Ip,
            namespace: "prod".into(),
            suffix: String::new(),
            app_name: "emqx".into(),
        };
        let of = |text: &str| remedy(&config, &DiscoveryError::Denied(text.to_owned()));
        for (text, expected) in [
            (
                "Kubernetes API at X: 403 Forbidden: missing the rights to list and watch \
                 endpointslices in group discovery.k8s.io, namespace prod: no",
                "kubectl -n prod create role muster --verb=list,watch \
                 --resource=endpointslices.discovery.k8s.io",
            ),
            (
                "Kubernetes API at X: 403 Forbidden: missing the rights to get and watch \
                 endpoints in the core group, namespace prod: no",
                "--verb=get,watch --resource=endpoints ",
            ),
            ("Kubernetes API at X: 401 Unauthorized: it does not accept the token", "mounted"),
            ("token /x: No such file or directory", "mount the service account's token"),
            ("CA file /x: holds no PEM certificate", "ca.crt"),
            ("Kubernetes API at X: cannot ask: the host name does not resolve: no", "DNS"),
            ("Kubernetes API at X: cannot ask: the server's certificate was issued", "give ca.crt"),
            ("Kubernetes API at X: cannot ask: Connection refused (os error 111)", "policies"),
            ("Kubernetes API at X: cannot ask: no answer within 3 s", "policies"),
            ("Kubernetes API at X: 404 Not Found: it has neither", "cluster-info"),
        ] {
            assert!(of(text).contains(expected), "{text}: {}", of(text));
        }
    }
}
