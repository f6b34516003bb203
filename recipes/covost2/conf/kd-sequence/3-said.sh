source ../common/conf/steps/said.sh
