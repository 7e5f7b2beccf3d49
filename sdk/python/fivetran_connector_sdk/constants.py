"""The switch that tools look up here. This runtime measures nothing inside a connector."""

CONNECTOR_SDK_CAPTURE_PERFORMANCE_METRICS = "CONNECTOR_SDK_CAPTURE_PERFORMANCE_METRICS"
CAPTURE_PERFORMANCE_METRICS_ENABLED = False
