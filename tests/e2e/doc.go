// Package e2e tests podwire in a real cluster: each shape of VM pod that
// manifests/ shows, with each binding, its guest's network in both directions, its
// probes, and its end.
// The cluster is whatever the kubeconfig says; how it was made, and by which CNI
// plugin its pods have their network, the tests do not ask.
//
// They have the build tag e2e, because without a cluster they fail rather than
// skip:
//
//	go test -tags e2e -v -count=1 -timeout 40m ./e2e -args -layout=ptp -family=dual
//
// With -shapes=launcher,split/tc it is these, of which the first has each of the bindings
// of -binding. A binding that is not the manifests' own is asked for by its component of
// manifests/components, in a namespace beside the shape's.
//
// With -family=dual, all that is asked of the guest's network is asked in IPv4 and
// in IPv6.
//
// They need kubectl, two nodes, and the images of make images on both. They make,
// and delete again, the namespaces podwire-e2e, podwire-system and those of the
// shapes; what is in these already is deleted first.
package e2e
