//go:build tools

// Package tools names the commands that ../../binaries.py builds from this module: what a real node needs beside the
// control plane. A module of its own, so that a machine that plays its nodes builds neither.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
