//! Kubernetes events and audit records, and what Kubernetes' collectors call things.
//!
//! The object's JSON is the line, as it came; what is searched for stands in fields beside it.

mod audit;
mod door;
mod event;
mod mask;
mod pick;

#[cfg(test)]
mod tests;

pub(crate) use audit::audit;
pub(super) use door::{Body, Objects};
pub use door::{KubernetesObjects, ROUTES, router};
pub(crate) use event::event;

/// The label that a flattened field of a collector becomes, if it becomes one. Names of Fluent Bit,
/// Vector, Filebeat and OpenTelemetry.
pub(crate) fn label_of(field: &str) -> Option<&'static str> {
    Some(match field {
        "cluster"
        | "cluster_name"
        | "kubernetes_cluster_name"
        | "k8s_cluster_name"
        | "orchestrator_cluster_name" => "cluster",
        "namespace"
        | "namespace_name"
        | "kubernetes_namespace_name"
        | "kubernetes_namespace"
        | "kubernetes_pod_namespace"
        | "k8s_namespace_name" => "namespace",
        "pod" | "pod_name" | "kubernetes_pod_name" | "k8s_pod_name" => "pod",
        "container" | "container_name" | "kubernetes_container_name" | "k8s_container_name" => {
            "container"
        }
        "node"
        | "node_name"
        | "kubernetes_host"
        | "kubernetes_node_name"
        | "kubernetes_pod_node_name"
        | "k8s_node_name" => "node",
        "workload"
        | "kubernetes_deployment_name"
        | "kubernetes_statefulset_name"
        | "kubernetes_daemonset_name"
        | "k8s_deployment_name"
        | "k8s_statefulset_name"
        | "k8s_daemonset_name" => "workload",
        "app"
        | "kubernetes_labels_app"
        | "kubernetes_labels_app_kubernetes_io_name"
        | "kubernetes_pod_labels_app"
        | "kubernetes_pod_labels_app_kubernetes_io_name" => "app",
        "service_name" => "service_name",
        "stream" => "stream",
        "unit" | "systemd_unit" | "_SYSTEMD_UNIT" => "unit",
        "host" | "hostname" | "host_name" | "_HOSTNAME" => "host",
        "job" => "job",
        _ => return None,
    })
}

/// What made a pod, by the name that Kubernetes generated for it; `None` if it made up none.
pub(crate) fn workload_of_pod(pod: &str) -> Option<&str> {
    // The letters of generated names are these: nothing that could spell a word.
    let is_generated =
        |part: &str| part.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b));
    let (rest, last) = pod.rsplit_once('-')?;
    if rest.is_empty() {
        return None;
    }
    if !last.is_empty() && last.len() <= 4 && last.bytes().all(|b| b.is_ascii_digit()) {
        return Some(rest);
    }
    if last.len() != 5 || !is_generated(last) {
        return None;
    }
    match rest.rsplit_once('-') {
        // A deployment's replica set, or a cron job's job by its minute.
        Some((workload, hash))
            if !workload.is_empty() && (6..=10).contains(&hash.len()) && is_generated(hash) =>
        {
            Some(workload)
        }
        Some((workload, minute))
            if !workload.is_empty()
                && minute.len() == 8
                && minute.bytes().all(|b| b.is_ascii_digit()) =>
        {
            Some(workload)
        }
        _ => Some(rest),
    }
}
