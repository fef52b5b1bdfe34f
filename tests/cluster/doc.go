// Package cluster drives a Kubernetes cluster with the kubectl binary, as the
// documentation tells its readers to: it runs commands, and reads what they print
// into a few types that hold what the tests ask about. It knows neither podwire
// nor how the cluster was made, and it is no client library: there is no watch,
// no cache, and no type for what no test needs.
package cluster
