//! All services of the port: ours, health, and reflection in both of its versions.

use tonic::service::Routes;
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tonic_reflection::server::{Builder, Error};

use crate::{
    proto,
    rpc::{self, Services},
    tasks::Tasks,
};

/// What load balancers are told, of the server as a whole and of each service.
#[derive(Clone, Debug, Default)]
pub(super) struct Health(HealthReporter);

impl Health {
    /// Send what you have.
    pub(super) async fn serving(&self) {
        self.tell(ServingStatus::Serving).await;
    }

    /// Send nothing new.
    pub(super) async fn not_serving(&self) {
        self.tell(ServingStatus::NotServing).await;
    }

    async fn tell(&self, status: ServingStatus) {
        for service in [""].into_iter().chain(rpc::SERVICES) {
            self.0.set_service_status(service, status).await;
        }
    }

    /// The service that tells them.
    pub(super) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.0.clone()))
    }
}

/// Everything that the port serves.
pub(super) fn all(tasks: &Tasks, health: &Health) -> Result<Services, Error> {
    let others = with_reflection(Routes::new(health.service()))?;
    Ok(Services::new(tasks, others))
}

fn with_reflection(routes: Routes) -> Result<Routes, Error> {
    let schema = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that the details of an error can be shown.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes.add_service(schema().build_v1()?).add_service(schema().build_v1alpha()?))
}

#[cfg(test)]
mod tests {
    use tonic::Request;
    use tonic_health::pb::{HealthCheckRequest, health_server::Health as _};

    use super::*;

    #[test]
    fn the_schema_can_be_served() {
        assert!(with_reflection(Routes::default()).is_ok());
    }

    #[tokio::test]
    async fn health_is_told_of_each_service() {
        let health = Health::default();
        let status = async |service: &str| {
            let request = Request::new(HealthCheckRequest { service: service.into() });
            let service = HealthService::from_health_reporter(health.0.clone());
            service.check(request).await.map(|answer| answer.into_inner().status)
        };
        let names = [
            "",
            "taskwatch.v1.TaskService",
            "taskwatch.v1.WorkerService",
            "google.longrunning.Operations",
        ];
        health.serving().await;
        for name in names {
            assert_eq!(status(name).await.expect("known"), 1, "{name}");
        }
        health.not_serving().await;
        for name in names {
            assert_eq!(status(name).await.expect("known"), 2, "{name}");
        }
        assert!(status("other").await.is_err());
    }
}
