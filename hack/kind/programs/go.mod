// podwire's own programs for a cluster without a registry; they need the standard
// library alone.
module github.com/podwire/podwire/hack/kind/programs

go 1.26.0
