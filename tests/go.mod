module github.com/podwire/podwire/tests

go 1.26.0

toolchain go1.26.8

require (
	github.com/klauspost/compress v1.20.3
	github.com/ulikunitz/xz v0.5.17
	golang.org/x/sys v0.49.0
)

require github.com/google/go-cmp v0.7.0

require github.com/containernetworking/cni v1.3.0

replace github.com/podwire/podwire => ../
