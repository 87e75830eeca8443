//go:build tools

// Package tools names the commands that ../../binaries.py builds from this module.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
