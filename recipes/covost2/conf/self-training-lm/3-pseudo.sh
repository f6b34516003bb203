source ../common/conf/steps/pseudo.sh
