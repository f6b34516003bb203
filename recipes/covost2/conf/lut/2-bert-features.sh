source ../common/conf/steps/bert-features.sh
